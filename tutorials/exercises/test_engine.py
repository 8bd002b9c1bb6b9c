"""Checks the engine behind engine.py: ``pytest exercises/test_engine.py``. No marks; what it lacks is skipped, in words.

Every operation against NumPy's value and central differences (minimask.testing.gradcheck, with a random cotangent),
and what engines get wrong: two uses of a value, broadcasting, a second walk, an array that is written to.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask.testing.adapter import bridged
from minimask.testing.marking import claim, expect

OPTIONAL = "five functions in exercises/engine.py, and your own engine is checked here"
#: Name -> NumPy's function, and the shapes of its inputs.
OPERATIONS = {
    "add": (np.add, [(3, 4), (3, 4)]),
    "multiply": (np.multiply, [(3, 4), (3, 4)]),
    "subtract": (np.subtract, [(3, 4), (3, 4)]),
    "divide": (np.divide, [(3, 4), (3, 4)]),
    "matmul": (np.matmul, [(3, 4), (4, 2)]),
    "tanh": (np.tanh, [(3, 4)]),
    "exp": (np.exp, [(3, 4)]),
    "log": (np.log, [(3, 4)]),
    "relu": (lambda x: np.maximum(x, 0), [(3, 4)]),
    "sum": (np.sum, [(3, 4)]),
    "mean": (np.mean, [(3, 4)]),
}


def inputs(rng, shapes):
    """Numbers from 0.5 to 2 with a random sign where it may be: away from kinks, and from 0."""
    return [rng.uniform(0.5, 2.0, shape) for shape in shapes]


def able(lesson, *names):
    """Skips a test whose operations the engine does not have."""
    one = lesson.value(np.ones((1, 1)))
    for name in names:
        try:
            lesson.operation(name, *[one] * len(OPERATIONS[name][1]))
        except (NotImplementedError, KeyError) as error:
            pytest.skip(f"your engine has no operation {name!r} ({type(error).__name__})")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation(lesson, gradcheck, rng, name):
    able(lesson, name)
    function, shapes = OPERATIONS[name]
    x = inputs(rng, shapes)
    got = lesson.data(lesson.operation(name, *map(lesson.value, x)))
    expect(got, function(*x), f"engine, {name}", {f"x{i}": each for i, each in enumerate(x)})
    gradcheck(bridged(lesson, lambda op, *values: op(name, *values), name), *x)


@pytest.mark.parametrize("shapes", [[(3, 4), (4,)], [(4,), (3, 4)], [(3, 1), (1, 4)], [(2, 3, 4), (3, 1)], [(), (3,)]])
@pytest.mark.parametrize("name", ["add", "multiply"])
def test_broadcasting(lesson, gradcheck, rng, name, shapes):
    able(lesson, name)
    gradcheck(bridged(lesson, lambda op, *values: op(name, *values), f"{name} of shapes {shapes}"), *inputs(rng, shapes))


def test_a_value_that_is_used_twice_gets_the_sum(lesson, gradcheck, rng):
    able(lesson, "add", "multiply")

    def diamond(op, x):
        p = op("multiply", x, x)
        return op("add", op("multiply", p, x), op("add", p, p))  # x^3 + 2 x^2

    gradcheck(bridged(lesson, diamond, "a diamond: p = x x, y = p x + (p + p)"), *inputs(rng, [(3,)]))


def test_a_chain_of_2000_operations(lesson):
    able(lesson, "add")
    leaf = end = lesson.value(np.ones(2))
    for _ in range(2000):
        end = lesson.operation("add", end, leaf)
    try:
        lesson.backward(end, np.array([1.0, 2.0]))
    except RecursionError:
        pytest.fail("RecursionError: Python's limit is about 1,000 calls inside each other; keep a stack of your own")
    expect(lesson.gradient(leaf), np.array([2001.0, 4002.0]), "engine, a chain of 2,000 additions")


def test_a_second_walk_starts_from_nothing_and_no_input_is_written_to(lesson, rng):
    able(lesson, "multiply")
    x, y, g = rng.standard_normal((3, 4))
    for _ in range(2):
        a, b = lesson.value(x.copy()), lesson.value(y.copy())
        lesson.backward(lesson.operation("multiply", a, b), g.copy())
        expect(lesson.gradient(a), g * y, "engine, x y", {"x": x, "y": y, "g": g})
        expect(lesson.data(a), x, "engine, x after the walk", {"x": x}, "x *= ... writes into an array of others")
    apart = lesson.value(x.copy())
    left = lesson.gradient(apart)
    claim(left is None or not np.any(left), "engine", f"a leaf that no walk came to has the gradient {left}")


lines = st.tuples(st.sampled_from(["add", "multiply"]), st.integers(0, 9), st.integers(0, 9))


@given(program=st.lists(lines, min_size=1, max_size=6))
def test_any_program_of_additions_and_products(lesson, gradcheck, program):
    able(lesson, "add", "multiply")

    def build(op, *values):
        made = list(values)
        for name, a, b in program:
            made.append(op(name, made[a % len(made)], made[b % len(made)]))
        return made[-1]

    gradcheck(bridged(lesson, build, "the program"), np.array([0.5, 1.25]), np.array([0.75, 1.0]))
