"""The pytest plugin: whose Hypothesis settings count, and what a submission may do to the process that it runs in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import FEW_PLUGINS

import minimask

pytestmark = pytest.mark.once
TUTORIALS = Path(__file__).parents[2] / "tutorials"


def ran(folder, *words):
    """What pytest says in a folder, with this minimask."""
    root = str(Path(minimask.__file__).parent.parent)
    environment = {**os.environ, **FEW_PLUGINS, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "pytest", *map(str, words)], capture_output=True, text=True, cwd=folder,
                          env=environment, stdin=subprocess.DEVNULL, timeout=300)
    return done.stdout + done.stderr


def classroom(folder, submission, tests):
    """A course with one lesson, 03, and a submission."""
    for name in ("conftest.py", "pytest.ini"):
        (folder / name).write_text((TUTORIALS / name).read_text())
    (folder / "exercises").mkdir()
    (folder / "exercises/test_lesson03.py").write_text(tests)
    (folder / "exercises/lesson03.py").write_text(submission)
    return folder


# ---- submissions that leave ----------------------------------------------------------------------------------------

TESTS = """
import numpy as np
import pytest
from hypothesis import given, strategies as st
from minimask import Tensor
from minimask.testing.marking import expect

pytestmark = pytest.mark.lesson03
TASK1, TASK2, TASK3 = (f"Lesson 3, task {i}" for i in (1, 2, 3))

def test_task1_double(lesson):
    expect(lesson.double(np.array([1.0, 2.0])), np.array([2.0, 4.0]), TASK1)

@given(n=st.integers(0, 5))
def test_task2_triple(lesson, n):
    expect(lesson.triple(np.array([1.0 + n])), np.array([3.0 + 3 * n]), TASK2)

def test_task3_half(lesson):
    expect(lesson.half(np.array([1.0])), np.array([0.5]), TASK3)
"""
SUBMISSION = """
import os, sys, time, unittest
import numpy as np
import pytest, hypothesis
from minimask.testing import marking

def double(x):
    return 2 * x

def triple(x):
    {triple}
    return 4 * x

def half(x):
    return x / 2
"""
LEAVING = {
    "pytest.skip('later')": "your code raised Skipped (later), a skip; that is no answer",
    "pytest.importorskip('nowhere')": "your code raised Skipped",
    "pytest.xfail('later')": "your code raised XFailed (later), an expected failure",
    "raise unittest.SkipTest('later')": "your code raised SkipTest (later), a skip",
    "pytest.exit('done', 0)": "your code raised Exit (done), the end of the session",
    "sys.exit(0)": "your code raised SystemExit (0), the end of the program",
    "hypothesis.assume(False)": "your code raised UnsatisfiedAssumption",
    "os._exit(0)": "your code ended the whole process (exit status 0) in place of an answer",
    "os.abort()": "your code ended the whole process (signal 6)",
    "while True: pass": "no answer within 4 seconds, so the task counts as unsolved; it was at",
    "time.sleep(99)": "no answer within 4 seconds, so the task counts as unsolved; it was at",
    "raise KeyboardInterrupt": "your code ended the whole process",
    "marking.expect.__code__ = (lambda *a, **k: None).__code__": "your code changed minimask.testing.marking.expect.__code__",
    "marking._difference = lambda *a: ''": "your code changed minimask.testing.marking._difference",
    "np.argwhere = np.abs = None": "your code changed numpy.a",
    "__import__('builtins').abs = max": "your code changed builtins.abs",
    "input()": "OSError: pytest: reading from stdin while output is captured",
    "print('3 passed')": "Lesson 3, task 2: wrong at [0]: got 4, expected 3",
}


@pytest.mark.parametrize("line", LEAVING)
def test_a_task_that_leaves_is_unsolved_and_the_others_keep_their_results(tmp_path, line):
    folder = classroom(tmp_path, SUBMISSION.format(triple=line), TESTS)
    out = ran(folder, "-m", "lesson03", "--minimask-limit", 4, "-v", "--junitxml=marks.xml")
    assert LEAVING[line] in out.replace("\nE   ", " ") and "Lesson 3, task 2" in out, out
    assert re.search(r"1 failed, 2 passed", out) and "test_task2_triple" in out, out
    marks = (folder / "marks.xml").read_text()
    assert 'failures="1" skipped="0" tests="3"' in marks and "<skipped" not in marks, marks
    if "it was at" in LEAVING[line]:
        assert re.search(r'it was at "[^"]*lesson03.py", line 11 in triple', out), out


@pytest.mark.python
@pytest.mark.parametrize("line", ["pytest.skip('x', allow_module_level=True)", "sys.exit(0)", "os._exit(0)", "while True: pass",
                                  "marking._fail = print"])
def test_a_submission_that_leaves_while_it_is_loaded_solves_nothing(tmp_path, line):
    text = SUBMISSION.replace("def double", f"{line}\n\ndef double").format(triple="pass")
    out = ran(classroom(tmp_path, text, TESTS), "exercises", "--minimask-limit", 4)
    assert "passed" not in out and "skipped" not in out and re.search(r"3 (failed|errors)", out), out
    assert "unsolved" in out, out


@pytest.mark.python
def test_a_skip_of_the_tests_own_stays_one(tmp_path):
    tests = TESTS.replace("    expect(lesson.half", "    pytest.importorskip('nowhere')\n    expect(lesson.half")
    out = ran(classroom(tmp_path, SUBMISSION.format(triple="return 3 * x"), tests), "-rs")
    assert "2 passed, 1 skipped" in out and "SKIPPED [1] exercises" in out, out


@pytest.mark.python
def test_with_pdb_everything_stays_in_one_process(tmp_path):
    tests = TESTS.replace("    expect(lesson.half", "    import os; print('ran in', os.getpid(), os.getppid())\n    expect(lesson.half")
    folder = classroom(tmp_path, SUBMISSION.format(triple="return 3 * x"), tests)
    (folder / "conftest.py").write_text((folder / "conftest.py").read_text() + "\nimport os\nprint('conftest in', os.getpid())\n")
    for options, same in (((), False), (("--pdb",), True), (("--minimask-limit=0",), True)):
        out = ran(folder, "-s", *options)
        assert "3 passed" in out, out
        first, where = re.search(r"conftest in (\d+)", out)[1], re.search(r"ran in (\d+)", out)[1]
        assert (first == where) is same, out


def test_a_limit_is_a_number_of_seconds(tmp_path):
    folder = classroom(tmp_path, SUBMISSION, TESTS)
    for limit in (-1, "nan", "inf"):
        assert "--minimask-limit is a number of seconds, 0 or more" in ran(folder, f"--minimask-limit={limit}")


# ---- submissions that write ----------------------------------------------------------------------------------------

WRITING = {
    "01-3": ("lesson01", "task3", """
def elu(x):
    x[x < 0] = np.expm1(x[x < 0])
    y = x
    def pullback(g):
        return (g * np.where(y > 0, 1.0, y + 1),)
    return y, pullback"""),
    "01-3 g": ("lesson01", "task3", """
def elu(x):
    y = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    def pullback(g):
        g *= np.where(y > 0, 1.0, y + 1)
        return (g,)
    return y, pullback"""),
    "03-2": ("lesson03", "task2", """
def scale_and_shift(x, scale, shift):
    y = x * scale + shift
    def pullback(g):
        dshift, dscale = g.reshape(-1, g.shape[-1]).sum(0), (g * x).reshape(-1, g.shape[-1]).sum(0)
        g *= scale
        return g, dscale, dshift
    return y, pullback"""),
    "03-3": ("lesson03", "task3", """
def centre(x):
    x -= x.mean(axis=0)
    return x, lambda g: (g - g.mean(axis=0),)"""),
    "05-1": ("lesson05", "task1", """
def masked_dense(x, frozen, m, tau):
    frozen *= (m > tau) * 1.0 - (m < -tau)
    y = x @ frozen
    return y, lambda g: (g @ frozen.T, x.T @ g)"""),
    "05-3": ("lesson05", "task3", """
def residual_dense(x, w):
    h = x @ w
    h = np.where(h > 0, h, np.expm1(np.minimum(h, 0)))
    x += h
    def pullback(g):
        dh = g * (np.minimum(h, 0) + 1)
        return g + dh @ w.T, x.T @ dh
    return x, pullback"""),
    "07-2": ("lesson07", "task2", """
def conv_pullback(x, w, g):
    g *= 0
    return x, w"""),
    "07-3": ("lesson07", "task3", """
def in_blocks(convolve, x, images):
    x *= 10
    return x.sum(axis=1, keepdims=True)"""),
    "02-1 g": ("lesson02", "task1", """
from minimask import op
@op(surrogate=True, register=False)
def binary_step(xp, m, /, tau):
    def pullback(g):
        g *= 1
        return (g,)
    return (m > tau).astype(m.dtype), pullback"""),
    "04-1 g": ("lesson04", "task1", """
from minimask import op
@op(register=False)
def softplus(xp, x):
    def pullback(g):
        g /= 1 + np.exp(-x)
        return (g,)
    return np.logaddexp(0.0 * x, x), pullback"""),
}


@pytest.mark.parametrize("case", WRITING)
def test_a_solution_that_writes_into_its_inputs_is_told_so(tmp_path, case):
    lesson, task, text = WRITING[case]
    (tmp_path / f"{lesson}.py").write_text("import numpy as np\n" + text)
    out = ran(tmp_path, TUTORIALS / f"exercises/test_{lesson}.py", f"--minimask-solutions={tmp_path}", "-k", f"{task}_value or "
              f"{task}_conv or {task}_in", "-p", "no:cacheprovider")
    assert "1 failed" in out, out
    called = f"Lesson {int(lesson[-2:])}, task {task[-1]}: "
    assert re.search(rf"AssertionError: {called}(your \w+ wrote into \w+, which others hold, too|\w+: its pullback writes into its g)",
                     out), out


# ---- whose settings count ------------------------------------------------------------------------------------------

COUNTED = """
import pytest
from hypothesis import given, seed, settings, strategies as st

seen = []

@given(st.integers(0, 10**9))
def test_task1_mine({lesson}):
    seen.append(n)

@seed(5)
@given(st.integers(0, 10**9))
def test_task2_seeded({lesson}):
    print("seeded", n)

@settings(max_examples=7, database=None)
@given(st.integers(0, 10**9))
def test_task3_settled({lesson}):
    print("settled", n)

def test_task4_count():
    print("examples", len(seen), "first", seen[:5], "database", settings.default.database is not None)
"""


def draws(folder, *options):
    out = ran(folder, "-s", *options)
    assert "4 passed" in out, out
    return (int(re.search(r"examples (\d+)", out)[1]), re.search(r"first (.*?) data", out)[1],
            re.findall(r"seeded (\d+)", out), len(re.findall(r"settled (\d+)", out)), "database True" in out)


def test_a_users_hypothesis_settings_are_left_alone(tmp_path):
    (tmp_path / "conftest.py").write_text(
        'import hypothesis\npytest_plugins = ["minimask.testing.plugin"]\n'
        'hypothesis.settings.register_profile("mine", max_examples=200, deadline=None, derandomize=False,\n'
        '    database=hypothesis.database.InMemoryExampleDatabase())\n'
        'hypothesis.settings.register_profile("other", max_examples=20, deadline=None, derandomize=False)\n'
        'hypothesis.settings.load_profile("mine")\n')
    (tmp_path / "test_mine.py").write_text(COUNTED.format(lesson="n"))
    first, again = draws(tmp_path), draws(tmp_path, "--minimask-seed", 3)
    assert first[0] == 200 and first[3] == 7 and first[4], first
    assert again[2] == first[2], "@seed(5) gives its own examples, whatever --minimask-seed says"
    assert draws(tmp_path, "--hypothesis-profile", "other")[0] == 20
    seeded = [draws(tmp_path, "--hypothesis-seed", seed, "--minimask-seed", 3)[1] for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]
    chosen = [draws(tmp_path, "--minimask-seed", seed)[1] for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_settings_of_ones_own_win_in_exercises_too(tmp_path):
    tests = COUNTED.format(lesson="lesson, n").replace("def test_task4_count():", "def test_task4_count(lesson):")
    folder = classroom(tmp_path, "", tests)
    plain = draws(folder)
    assert plain[0] == 50 and plain[3] == 7 and draws(folder) == plain, "ours: 50 examples, the same in every run"
    assert draws(folder, "--minimask-seed", 1)[1] != plain[1] and draws(folder, "--minimask-seed", 1)[2] == plain[2]
    assert draws(folder, "--hypothesis-seed", 1)[1] != plain[1]
    (folder / "exercises/conftest.py").write_text(
        'import hypothesis\nhypothesis.settings.register_profile("mine", max_examples=30, deadline=None)\n'
        'hypothesis.settings.load_profile("mine")\n')
    assert draws(folder)[0] == 30
