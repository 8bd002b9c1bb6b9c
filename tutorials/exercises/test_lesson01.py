"""Marks lesson 01: ``pytest exercises/test_lesson01.py``, one task with ``-k task1``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimask import Tensor, ops
from minimask.testing.marking import claim, expect
from minimask.testing.strategies import shapes, whole

pytestmark = pytest.mark.lesson01
TASK1, TASK2, TASK3 = (f"Lesson 1, task {i}" for i in (1, 2, 3))
#: A task's second hint, shown from its third failing run on.
HINTS = {
    1: "Keep stack = [(root, iter(root.inputs))]. Look at the iterator on top: if it gives an input not seen "
       "before, mark it seen and push it; if it is empty, pop, and append the value to the order.",
    2: "Set every .grad to zeros of its data's shape, root's to a copy of g. Walk the order of task 1 from its "
       "end: for each input and part of pullback(value.grad), input.grad = input.grad + part.",
    3: "e = np.expm1(np.minimum(x, 0)) never overflows. y = np.where(x > 0, x, e), and the slope is np.where(x > "
       "0, 1, y + 1).",
}


class Value:
    """The lesson's Value, with a name."""

    def __init__(self, name, data, inputs=(), pullback=None):
        self.name, self.data, self.inputs, self.pullback, self.grad = name, data, inputs, pullback, None

    def __repr__(self):
        return self.name


# A program is a list of lines: line i makes value "v<i>" out of earlier ones, by number.
lines = st.tuples(st.sampled_from("+*"), st.integers(0, 20), st.integers(0, 20))
programs = st.lists(lines, min_size=1, max_size=7)
LEAVES = 2


def run(program):
    """All values of a program: two leaves, then one per line; and as text those lines that its last value needs."""
    values = [Value(f"v{i}", np.array([2.0 + i, 3.0])) for i in range(LEAVES)]
    text = [f"v{i} is a leaf with data {value.data.tolist()}" for i, value in enumerate(values)]
    for sign, a, b in program:
        x, y = values[a % len(values)], values[b % len(values)]
        name = f"v{len(values)}"
        text.append(f"{name} = {x} {sign} {y}")
        if sign == "+":
            values.append(Value(name, x.data + y.data, (x, y), lambda g: (g, g)))
        else:
            values.append(Value(name, x.data * y.data, (x, y), lambda g, x=x, y=y: (g * y.data, g * x.data)))
    return values, "; ".join(line for value, line in zip(values, text) if value.name in below(values[-1]))


def below(root):
    """The names of everything that root was computed from, and its own."""
    return {root.name}.union(*(below(x) for x in root.inputs))


@given(program=programs)
def test_task1_the_order_of_any_program(lesson, program):
    values, text = run(program)
    given_ = {"program": text, "root": values[-1].name}
    order = lesson.topological_order(values[-1])
    claim(isinstance(order, list), TASK1, f"got {type(order).__name__}, expected a list of values", inputs=given_)
    names = [value.name for value in order]
    place = {name: i for i, name in enumerate(names)}
    missing, foreign = below(values[-1]) - set(names), set(names) - below(values[-1])
    claim(not missing, TASK1, f"your list is {names}; missing are {sorted(missing)}",
          "leaves are on it, too, and so is root", given_)
    claim(not foreign, TASK1, f"your list is {names}; root was not computed from {sorted(foreign)}", inputs=given_)
    claim(len(set(names)) == len(names), TASK1, f"your list is {names}; some values are on it more than once",
          "remember what you have seen, by id(value)", given_)
    for value in order:
        late = sorted({x.name for x in value.inputs if place[x.name] > place[value.name]})
        claim(not late, TASK1, f"your list is {names}; {value.name} stands before its input {', '.join(late)}",
              "enter a value when you leave it, after all its inputs; on reaching it is too early", given_)


def test_task1_a_chain_of_5000_operations(lesson):
    values = [Value("v0", np.zeros(1))]
    for i in range(1, 5001):
        values.append(Value(f"v{i}", np.zeros(1), (values[-1], values[0]), lambda g: (g, g)))
    program = {"program": "v0 is a leaf; v1 = v0 + v0; v2 = v1 + v0; ...; v5000 = v4999 + v0"}
    try:
        order = lesson.topological_order(values[-1])
    except RecursionError:
        order = None
    claim(order is not None, TASK1, "RecursionError: Python's limit is about 1,000 calls inside each other",
          "keep a list of (value, iterator over its inputs) as your own stack", program)
    claim([value.name for value in order] == [value.name for value in values], TASK1,
          "the order must be v0, v1, v2, ..., v5000: there is only this one", inputs=program)


@given(program=programs, g=whole((2,), largest=3))
def test_task2_the_gradients_of_any_program(lesson, program, g):
    marked_walk(lesson, *run(program), program, g)


def test_task2_a_second_call_starts_from_nothing(lesson):
    program, g = [("*", 0, 1), ("+", 2, 2)], np.array([1.0, 2.0])
    values, text = run(program)
    marked_walk(lesson, values, text, program, g)
    marked_walk(lesson, values, f"{text}; and this is the second call", program, g,
                "set every .grad to zero, or to None, before you walk")


def marked_walk(lesson, values, text, program, g,
                hint="pull a value only when all its uses have been pulled; its cotangent is the sum of all parts"):
    """One call of backward() on the last value of a program, marked."""
    tensors = [Tensor(value.data, requires_grad=True) for value in values[:LEAVES]]
    for sign, a, b in program:  # the same again, with minimask's tensors
        x, y = tensors[a % len(tensors)], tensors[b % len(tensors)]
        tensors.append(x + y if sign == "+" else x * y)
    tensors[-1].backward(g)
    inputs = {"program": text, "root": values[-1].name, "g": g.copy()}
    lesson.backward(values[-1], g)
    claim(np.array_equal(g, inputs["g"]), TASK2, f"your walk changed the cotangent that it was given: g is now {g}",
          "x.grad += h writes into an array that somebody else may hold; write x.grad = x.grad + h", inputs)
    for value, tensor in zip(values[:LEAVES], tensors):
        if value.name in below(values[-1]):
            expect(value.grad, tensor.grad, TASK2, {**inputs, "this is the gradient of": value.name}, hint)


@given(x=whole(shapes(min_rank=1, max_rank=2), step=0.5), g=st.sampled_from([2.0, -1.0]))
def test_task3_value_and_pullback(lesson, x, g):
    g = np.full(x.shape, g)
    y, pullback = parts(lesson.elu(x), {"x": x})
    leaf = Tensor(x, requires_grad=True)
    right = ops.elu(leaf)
    right.backward(g)
    expect(y, right.data, TASK3, {"x": x}, "x where x > 0, e^x - 1 elsewhere")
    expect(pulled(pullback, g, {"x": x}), leaf.grad, TASK3, {"x": x, "g": g},
           "g times the slope; where x <= 0 the slope is e^x, and that is y + 1")


def test_task3_large_inputs(lesson):
    x = np.array([-1000.0, 1000.0])
    with np.errstate(all="ignore"):
        y, pullback = parts(lesson.elu(x), {"x": x})
        dx = pulled(pullback, np.ones(2), {"x": x})
    hint = "np.where computes both branches; let the exponential see only min(x, 0)"
    expect(y, np.array([-1.0, 1000.0]), TASK3, {"x": x}, hint)
    expect(dx, np.array([0.0, 1.0]), TASK3, {"x": x, "g": np.ones(2)}, hint)


def parts(answer, inputs):
    """The value and the pullback of an answer."""
    claim(isinstance(answer, tuple) and len(answer) == 2 and callable(answer[1]), TASK3,
          f"got {type(answer).__name__}, expected two things: the value and a function", "return y, pullback", inputs)
    return answer


def pulled(pullback, g, inputs):
    """The one cotangent that the pullback gives."""
    entries = pullback(g)
    claim(isinstance(entries, tuple) and len(entries) == 1, TASK3,
          f"the pullback gave {type(entries).__name__}, expected a tuple with one array",
          "return (dx,), with the comma", inputs | {"g": g})
    return entries[0]
