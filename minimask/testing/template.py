"""A lesson of one's own to fill in: `minimask course DIR --template 20` writes text, stub, tests and solution.

The example in it works: its solution passes, its stub says what to do, and `minimask grade` marks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ..files import claim
from .course import source
from .notebook import notebook

TEXT = '''# %% [markdown]
# # Your title
#
# **You will build** ... **You will learn** ... **It takes** about 30 minutes.

# %%
import numpy as np

# %% [markdown]
# ## 1. Leaky units
#
# A rectifier that lets a little through: $y = x$ where $x > 0$, $y = a x$ elsewhere.

# %%
def leaky(x, a=0.1):
    return np.where(x > 0, x, a * x)


print(leaky(np.array([-1.0, 0.0, 2.0])))

# %% [markdown]
# ## 2. The claims of this lesson

# %%
assert leaky(np.array([-1.0]))[0] == -0.1
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write them in `exercises/lesson{n}.py`; `pytest -m lesson{n}` marks them.
'''

STUB = '''"""Lesson {n}, exercises. ``pytest -m lesson{n} -k task1`` marks task 1."""

import numpy as np


def leaky(x: np.ndarray, a: float) -> np.ndarray:
    """Task 1. x where x > 0, a x elsewhere: any shape -> same shape. The input stays as it is."""
    raise NotImplementedError("Lesson {i}, task 1: compute the leaky rectifier")


def leaky_op(xp, x):
    """Task 2. The same with a = 0.1, as an operation of minimask's: decorate it with ``@op(register=False)``.

    Returns the value, and a pullback: the cotangent g of the value -> a tuple with that of x.
    """
    raise NotImplementedError("Lesson {i}, task 2: value and pullback")
'''

TESTS = '''"""Marks lesson {n}: ``pytest -m lesson{n}``, one task with ``-k task1``.

`lesson` is the module that is marked: its functions are called with copies of their arrays, in a process of its own.
Whatever is drawn comes from --minimask-seed: by `rng`, by Hypothesis and by gradcheck. Another seed makes these same
tests hidden ones.
"""

import numpy as np
import pytest
from hypothesis import given

from minimask.testing.marking import claim, expect
from minimask.testing.strategies import shapes, whole

pytestmark = pytest.mark.lesson{n}
TASK1, TASK2 = (f"Lesson {i}, task {{i}}" for i in (1, 2))
#: What a task is worth in `minimask grade`; 1 where nothing is said.
POINTS = {{1: 1, 2: 2}}
#: A task's second hint, shown from its third failing run on.
HINTS = {{
    1: "np.where(condition, a, b) takes entries of a where the condition holds, of b elsewhere.",
    2: "The slope is 1 or 0.1: the pullback is g times xp.where(x > 0, 1.0, 0.1), in a tuple.",
}}


@given(x=whole(shapes(max_rank=2), step=0.5))
def test_task1_any_array(lesson, x):
    expect(lesson.leaky(x, 0.1), np.where(x > 0, x, 0.1 * x), TASK1, {{"x": x, "a": 0.1}},
           hint="two cases, and 0 belongs to either")


def test_task1_another_slope(lesson, rng):
    x, a = rng.standard_normal(5), 0.3
    expect(lesson.leaky(x, a), np.where(x > 0, x, a * x), TASK1, {{"x": x, "a": a}}, hint="a is a parameter")


def test_task2_the_gradient(lesson, gradcheck, rng):
    x = rng.uniform(0.5, 2, (3, 4)) * rng.choice([-1.0, 1.0], (3, 4))  # away from the kink at 0
    claim(hasattr(lesson.leaky_op, "surrogate"), TASK2, "leaky_op is a plain function, expected an operation",
          hint="from minimask import op, and @op(register=False) above it")
    gradcheck(lesson.leaky_op, x)
'''

SOLUTION = '''"""Reference solutions of lesson {n}: not for students."""

import numpy as np

from minimask import op


def leaky(x, a):
    return np.where(x > 0, x, a * x)


@op(register=False)
def leaky_op(xp, x):
    slope = xp.where(x > 0, 1.0, 0.1)
    return x * slope, lambda g: (g * slope,)
'''

README = '''# Lesson {n}: how it is made

| file | what it is |
|---|---|
| `{n}_lesson.ipynb` | the text; it ends in claims (asserts) that it could lose |
| `exercises/lesson{n}.py` | what students get: functions that say what they are to do and raise NotImplementedError |
| `exercises/test_lesson{n}.py` | the tests: `test_taskK_...`, with the fixture `lesson`, `expect`, `gradcheck` |
| `solutions/lesson{n}.py` | the reference; keep it and your seed to yourself |
| `conftest.py`, `pytest.ini` | load the plugin (fixtures, markers, options) and show one task at a time |

```sh
pytest -m lesson{n}                                  # the stub: every test says what to do
pytest -m lesson{n} --minimask-solutions=solutions   # the reference: every test passes
minimask grade handed-in --tests exercises --solutions solutions --seed 4711 --csv points.csv --feedback feedback
```

The tests draw their inputs from the seed. With a seed that nobody else knows they are hidden tests: an answer that
only knows the inputs of seed 0 fails. `--solutions` marks the reference first, with that seed, and stops if it fails.
Students get this folder without `solutions/`.
'''


def write(folder: Path, numbers: Sequence[str]) -> list[str]:
    """Writes the template into `folder`, which is new or empty: -> the names of its files.

    Raises UsageError for a number below 20, which are the course's, for more than one, and for a folder that is full.
    """
    if len(numbers) != 1 or int(numbers[0]) < 20:
        raise UsageError(f"--template {','.join(numbers)}: give one number from 20 to 99; those below are the course's")
    claim(folder, "something already, which is not overwritten", "name a folder that is empty or new")
    names = {"n": numbers[0], "i": str(int(numbers[0]))}

    def filled(text: str) -> str:
        return text.format(**names)

    # In TESTS `{i}` stands twice: for the lesson's number, and, doubled, for the task's.
    texts = {"README.md": filled(README), f"{numbers[0]}_lesson.ipynb": notebook(TEXT.replace("{n}", numbers[0])),
             f"exercises/lesson{numbers[0]}.py": filled(STUB), f"exercises/test_lesson{numbers[0]}.py": filled(TESTS),
             f"solutions/lesson{numbers[0]}.py": filled(SOLUTION)}
    for name in ("conftest.py", "pytest.ini"):
        texts[name] = (source() / name).read_text(encoding="utf-8")
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    return sorted(texts)
