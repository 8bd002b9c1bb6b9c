"""The course: exercises that can be solved and that notice mistakes, the plugin that marks them, `minimask course`."""

import ast
import importlib.util
import json
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import FEW_PLUGINS

import minimask
from minimask import Tensor
from minimask.__main__ import main
from minimask.testing import GradientError, course, elsewhere, marking, notebook

HERE = Path(__file__).parent.parent
TUTORIALS = HERE.parent / "tutorials"
EXERCISES = TUTORIALS / "exercises"
LESSONS = sorted(path.stem for path in EXERCISES.glob("lesson[0-9][0-9].py"))
SCRIPTS = sorted(TUTORIALS.glob("[0-9]*.py"))
FOLDED = ' jupyter={"source_hidden": true}'  # behind "# %%": a cell whose code JupyterLab folds


def called(lesson, task):
    return f"Lesson {int(lesson.removeprefix('lesson'))}, task {task}"


def python(*words, **settings):
    """A Python process that finds this minimask."""
    root = str(Path(minimask.__file__).parent.parent)
    environment = {**os.environ, **FEW_PLUGINS, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, **settings)


# ---- every exercise ------------------------------------------------------------------------------------------------


def tasks(lesson):
    """The numbers of the tasks that a lesson's tests mark."""
    return sorted({int(n) for n in re.findall(r"def test_task(\d+)_", (EXERCISES / f"test_{lesson}.py").read_text())})


def test_every_lesson_has_one_to_three_tasks_and_all_have_twenty():
    scripts = sorted(path.name[:2] for path in TUTORIALS.glob("[0-9][0-9]_*.py"))
    assert scripts == [f"{n:02}" for n in range(14)] and LESSONS == [f"lesson{n}" for n in scripts]
    counts = {lesson: len(tasks(lesson)) for lesson in LESSONS}
    assert all(1 <= count <= 3 for count in counts.values()) and sum(counts.values()) >= 20, counts
    assert all(tasks(lesson) == list(range(1, counts[lesson] + 1)) for lesson in LESSONS), "tasks count from 1"


@pytest.mark.once
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_reference_passes_the_stubs_say_what_to_do_and_wrong_solutions_are_told(lesson, tmp_path):
    """One test a lesson, so that a run on many cores marks each lesson once."""
    out = tmp_path / "marks.json"
    ran = python(HERE / "marked.py", lesson, EXERCISES, out)
    assert out.exists(), ran.stdout + ran.stderr
    runs = json.loads(out.read_text())
    the_reference_passes_every_task(lesson, runs.pop("reference"))
    the_stubs_say_what_to_do(lesson, runs.pop("stubs"))
    every_wrong_solution_is_noticed_and_told_what_is_wrong(lesson, runs)


def the_reference_passes_every_task(lesson, rows):
    assert {int(re.match(r"test_task(\d+)_", test)[1]) for test, _, _ in rows} == set(tasks(lesson))
    assert all(outcome in ("passed", "skipped") for _, outcome, _ in rows), [row for row in rows if row[1] == "failed"]
    for task in tasks(lesson):
        assert any(outcome == "passed" for test, outcome, _ in rows if test.startswith(f"test_task{task}_")), task


def the_stubs_say_what_to_do(lesson, rows):
    assert {int(re.match(r"test_task(\d+)_", test)[1]) for test, _, _ in rows} == set(tasks(lesson))
    for test, outcome, text in rows:
        task = called(lesson, re.match(r"test_task(\d+)_", test)[1])
        assert outcome in ("failed", "skipped"), f"{lesson}: {test} passes before anything is written"
        assert outcome == "skipped" or re.search(f"NotImplementedError: {task}: .{{10}}", text), text
    stubs = ast.parse((EXERCISES / f"{lesson}.py").read_text())
    public = [node for node in stubs.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    for node in public:
        assert ast.get_docstring(node), f"{lesson}: {node.name} says nothing"


def every_wrong_solution_is_noticed_and_told_what_is_wrong(lesson, runs):
    for task in tasks(lesson):
        wrong = {run: rows for run, rows in runs.items() if run.startswith(f"task{task} ")}
        assert len(wrong) >= 2, f"{called(lesson, task)} has {len(wrong)} wrong solutions"
        for run, rows in wrong.items():
            texts = [text for _, outcome, text in rows if outcome == "failed"]
            assert texts, f"{lesson}: the wrong solution {run} passes its task"
            assert all(called(lesson, task) in text for text in texts), texts
            assert any(word in text for text in texts for word in ("expected", "hint:", "should", "must")), texts
            assert not any(re.search(r"(Name|Import|NotImplemented)Error", text) for text in texts), texts


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 4711])
def test_the_reference_passes_with_any_seed(seed):
    ran = python("-m", "pytest", "-p", "no:cacheprovider", f"--minimask-solutions={HERE / 'solutions'}",
                 f"--minimask-seed={seed}", cwd=TUTORIALS)
    assert ran.returncode == 0, ran.stdout


# ---- marking -------------------------------------------------------------------------------------------------------


def failure(*arguments, **settings):
    with pytest.raises(AssertionError) as caught:
        marking.expect(*arguments, task="Lesson 3, task 2", **settings)
    return str(caught.value)


def test_a_right_answer_is_silent():
    for got, expected in ((1.0, 1), (np.float32([1, 2]), [1.0, 2.0]), (Tensor([1.0, 2.0]), np.array([1.0, 2.0])),
                          ([np.ones(2), 3.0], (np.ones(2), 3)), ("a", "a"), (True, True), (None, None),
                          (np.array([np.nan, np.inf]), np.array([np.nan, np.inf])), ({"a": 1}, {"a": 1}),
                          (1 + 1e-7, 1.0), (1e6 + 0.5, 1e6), (np.zeros((0, 2)), np.zeros((0, 2)))):
        marking.expect(got, expected, task="Lesson 3, task 2")
    marking.claim(True, "Lesson 3, task 2", "never said")


def test_a_wrong_answer_is_told_task_input_element_and_hint():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert failure(x + np.array([[0, 0], [0.5, 1]]), x, inputs={"x": x, "axis": 0}, hint="look at the last row") == (
        "Lesson 3, task 2: wrong at [1, 0]: got 3.5, expected 3 (2 of 4 entries are wrong)\n"
        "with\n"
        "  x = np.array([[1., 2.],\n"
        "                [3., 4.]])\n"
        "  axis = 0\n"
        "hint: look at the last row")
    assert failure(2.0, 3.0) == "Lesson 3, task 2: wrong: got 2, expected 3"
    assert failure(x.sum(), x) == "Lesson 3, task 2: the shape is wrong: got (), expected (2, 2)"
    assert failure(np.ones(3), np.ones((1, 3))).endswith("the shape is wrong: got (3,), expected (1, 3)")
    assert failure(None, x).endswith("your function returned None; is there a `return`?")
    assert failure("a", x).endswith("got str 'a', expected numbers of shape (2, 2)")
    assert failure([[1], [1, 2]], x).endswith("expected numbers of shape (2, 2)")
    assert failure("a", "b").endswith("got 'a', expected 'b'")
    assert failure(x, (x, x)).endswith("your answer is one ndarray, expected are 2 values")
    assert failure((x,), (x, x)).endswith("your answer is 1 values, expected are 2 values")
    assert failure((x, x + 1), (x, x)).splitlines()[0].endswith(
        "of the 2 values that your answer has, number 1 (from 0) is wrong: wrong at [0, 0]: got 2, expected 1 (4 of 4 "
        "entries are wrong)")
    assert failure(np.array([np.nan, 1.0]), np.ones(2)).endswith("wrong at [0]: got nan, expected 1 (1 of 2 entries are wrong)")
    assert failure(1 + 1e-7, 1.0, tolerance=0) and failure(1 + 1e-5, 1.0) and failure(np.inf, 1.0) and failure(1.0, np.nan)
    assert "; the dtype is float32, expected float64)" in failure(np.float32(x + 1), x)
    assert failure(np.float32(x), x, same_dtype=True).endswith("the values are right, but the dtype is float32, expected float64")
    assert failure(np.array([True, False]), np.array([True, True])).endswith(
        "wrong at [1]: got False, expected True (1 of 2 entries are wrong)")
    with pytest.raises(AssertionError, match=r"^Lesson 3, task 2: no!\nwith\n  n = 3\nhint: yes$"):
        marking.claim(np.False_, "Lesson 3, task 2", "no!", "yes", {"n": 3})


def test_inputs_are_shown_so_that_they_can_be_pasted():
    inputs = {"x": np.float32([[0.1234567], [2]]), "k": (1, 2), "labels": np.array([1, 0]), "t": Tensor([1.0])}
    names = {"np": np}
    exec(marking.shown(inputs), names)
    np.testing.assert_allclose(names["x"], inputs["x"], rtol=1e-5)
    assert names["x"].dtype == np.float32 and names["k"] == (1, 2) and names["labels"].tolist() == [1, 0]
    assert names["t"].tolist() == [1.0]
    assert marking.shown({"x": np.arange(100.0).reshape(4, 25)}) == "x: float64 array of shape (4, 25), from 0 to 99"
    assert marking.shown({"x": np.zeros((0, 2))}) == "x = np.array([])  # shape (0, 2)" and marking.shown(None) == ""


# ---- the plugin ----------------------------------------------------------------------------------------------------

TESTS = """
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minimask import op, ops

pytestmark = pytest.mark.lesson03

def test_task1_draws(lesson, rng):
    print("drawn", rng.integers(0, 10**9))

@given(st.integers(0, 10**9))
def test_task1_hypothesis(lesson, n):
    print("example", n)

@pytest.mark.parametrize(("x", "y"), [(1, (0, 2))])
def test_task2_their_error(lesson, x, y):
    lesson.broken(x)

def test_task2_gradient(lesson, gradcheck, rng):
    gradcheck(lesson.wrong, rng.standard_normal((2, 3)))

def test_task3_portable(lesson, gradcheck, rng):
    gradcheck(lesson.only_numpy, rng.standard_normal(3))

def test_task3_fresh(lesson, minimask_backend):
    assert minimask_backend in ("numpy", "strict") and ops.OPS["fresh_op"] is lesson.fresh_op
"""
AFTER = """
def test_task2_first(lesson):
    assert ops.OPS["fresh_op"] is lesson.fresh_op

def test_task2_second(lesson):
    assert ops.OPS["fresh_op"] is lesson.fresh_op

def test_no_task(lesson):
    assert False, "no lesson is named here"
"""
STUDENT = """
import numpy as np
from minimask import op

def broken(x):
    return {}[x]

@op(register=False)
def wrong(xp, x):
    return x**3, lambda g: (3 * x * g,)

@op(register=False)
def only_numpy(xp, x):
    return np.power(x, 2), lambda g: (2 * x * g,)

@op
def fresh_op(xp, x):
    return x, lambda g: (g,)
"""


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    """A course with one lesson, and a student's folder of solutions beside it."""
    folder = tmp_path_factory.mktemp("classroom")
    (folder / "exercises").mkdir()
    (folder / "student").mkdir()
    for name in ("conftest.py", "pytest.ini"):
        (folder / name).write_text((TUTORIALS / name).read_text())
    (folder / "exercises/test_lesson03.py").write_text(TESTS)
    (folder / "exercises/lesson03.py").write_text(STUDENT)
    (folder / "student/lesson03.py").write_text("raise ValueError('of the student')")
    (folder / "exercises/test_lesson04.py").write_text(TESTS.partition("@given")[0].replace("lesson03", "lesson04") + AFTER)
    (folder / "exercises/lesson04.py").write_text(STUDENT)
    return folder


@pytest.mark.once
def test_the_plugin_seeds_numpy_and_hypothesis(classroom):
    def drawn(*options):
        out = python("-m", "pytest", "-s", "-k", "lesson03 and task1", *options, cwd=classroom).stdout
        assert "2 passed" in out, out
        return re.findall(r"drawn (\d+)", out), re.findall(r"example (\d+)", out)

    first, again, other = drawn(), drawn("--minimask-seed", "0"), drawn("-m", "lesson03", "--minimask-seed", "7")
    assert first == again and first[0] != other[0] and first[1] != other[1] and len(set(first[1])) > 10
    assert not list(classroom.glob("**/.hypothesis/examples")), "an example of an earlier run must not come back"


@pytest.mark.python
@pytest.mark.once
def test_failures_name_lesson_and_task_and_ops_are_taken_back(classroom):
    out = python("-m", "pytest", "exercises", cwd=classroom).stdout  # lesson04 registers an op of the same name
    assert "3 failed, 7 passed" in out, out
    assert "KeyError: 1" in out and "\nE   Lesson 3, task 2: this is what its test met; the task is described in lesson03.py" in out
    assert re.search(r"KeyError: 1\nE   with\nE   x = 1\nE   y = \(0, 2\)\nE   Lesson 3, task 2", out), out
    assert re.search(r"GradientError: wrong: the gradient of input 0.*\nE   with\nE   input_0 = np.array", out), out
    strict = python("-m", "pytest", "-k", "task3", "--minimask-backend", "strict", cwd=classroom).stdout
    assert "1 failed, 1 passed" in strict and "only_numpy: Can't convert array" in strict, strict


@pytest.mark.once
def test_other_solutions_and_wrong_options(classroom):
    student = f"--minimask-solutions={classroom / 'student'}"
    for words, folder in (((classroom / "exercises/test_lesson03.py", student), classroom.parent),
                          ((student, "-m", "lesson03"), classroom)):
        out = python("-m", "pytest", *words, cwd=folder).stdout
        assert "6 errors" in out and "ValueError: of the student" in out, out
    out = python("-m", "pytest", f"--minimask-solutions={classroom.parent}", cwd=classroom).stdout
    assert "lesson03.py is missing; `minimask course` writes it into a new folder" in out and "Traceback" not in out, out
    for options, sentence in ((("--minimask-solutions=nowhere",), "--minimask-solutions nowhere: there is no such folder"),
                              (("--minimask-backend", "cupyx"), "invalid choice: 'cupyx'"),
                              (("-m", "lesson99", "--minimask-seed", "x"), "invalid int value: 'x'")):
        ran = python("-m", "pytest", *options, cwd=classroom)
        assert ran.returncode == 4 and sentence in ran.stderr, ran.stderr
    if importlib.util.find_spec("cupy") is None:
        ran = python("-m", "pytest", "--minimask-backend", "cupy", cwd=classroom)
        assert ran.returncode == 4 and "backend 'cupy' needs the package" in ran.stderr


def test_nobody_gets_the_plugin_without_asking(tmp_path):
    (tmp_path / "test_x.py").write_text("def test_x(): pass")
    ran = python("-m", "pytest", "--help", cwd=tmp_path)
    assert "minimask" not in ran.stdout
    found = [path for path in TUTORIALS.rglob("conftest.py") if "pytest_plugins" in path.read_text()]
    assert found == [TUTORIALS / "conftest.py"], "one conftest, above the exercises: so its options are known from anywhere"


@pytest.mark.once
def test_the_documented_test_of_an_op_passes_and_notices_a_wrong_one(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: the documented test compares with it")
    text = minimask.testing.__doc__
    code = ["import torch", "import numpy as np", "from hypothesis import given, settings", "from minimask.testing import strategies"]
    code += [line[4:] for line in text.splitlines() if line.startswith((">>> ", "... "))][1:-1]  # without the check
    code += [line[4:] for line in text.partition("::\n")[2].splitlines()]
    (tmp_path / "conftest.py").write_text((TUTORIALS / "conftest.py").read_text())
    for name in ("silu", "seeded"):
        (tmp_path / f"test_{name}.py").write_text("\n".join(code))
    (tmp_path / "test_wrong.py").write_text("\n".join(code).replace("(g * (p +", "(g * (1.1 * p +"))
    words = (["test_silu.py"], ["test_seeded.py", "--minimask-seed", "3", "--minimask-backend", "strict"], ["test_wrong.py"])
    ran = python("-c", f"import pytest\nfor words in {words}:\n    pytest.main(words)\n    print('THE END')", cwd=tmp_path)
    first, seeded, wrong, _ = ran.stdout.split("THE END\n")  # in one process: PyTorch takes seconds to import
    assert "1 passed" in first and "1 passed" in seeded, ran.stdout
    assert "1 failed" in wrong and "silu: the gradient of input 0" in wrong, wrong


@pytest.mark.once
def test_the_syllabus_counts_points_from_a_junit_file(classroom, monkeypatch, capsys):
    python("-m", "pytest", "exercises/test_lesson03.py", "--junitxml", "ada-lesson03.xml", cwd=classroom)
    snippet = re.search(r"```python\n(import re, xml.*?)```", (TUTORIALS / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(classroom)
    exec(snippet, {})
    assert capsys.readouterr().out == "{'task1': True, 'task2': False, 'task3': True}\n"


def test_elsewhere_compares_value_and_gradients():
    elsewhere(minimask.ops.matmul, np.ones((2, 3)), np.ones((3, 2)))
    elsewhere(minimask.ops.cross_entropy, np.eye(3), np.array([0, 1, 2]))

    def off(factor, slope):
        @minimask.op(register=False)
        def f(xp, x):
            here = xp is np
            return x * (1.0 if here else factor), lambda g: (g * (1.0 if here else slope),)
        return f

    elsewhere(off(1.0, 1.0), np.ones(2))
    with pytest.raises(GradientError, match="f: the value on backend 'strict' is not NumPy's"):
        elsewhere(off(1.01, 1.0), np.ones(2))
    with pytest.raises(GradientError, match="f: the gradient of input 0 on backend 'strict' is not NumPy's"):
        elsewhere(off(1.0, 1.01), np.ones(2))


# ---- minimask course -----------------------------------------------------------------------------------------------


@pytest.fixture
def plain_notebooks(monkeypatch):
    """Without jupytext: the command's own work is what is tested here."""
    monkeypatch.setattr(course, "notebook", lambda script: f"notebook of {script.name}")


def test_the_course_is_written_into_a_new_or_empty_folder(plain_notebooks, tmp_path, capsys):
    (tmp_path / "mine/.git").mkdir(parents=True)
    for folder in (tmp_path / "new/folder", tmp_path / "mine"):
        assert main(["course", str(folder)]) == 0
        said = capsys.readouterr().out
        assert str(folder / "00_quickstart.ipynb") in said and "pytest -m lesson01" in said
        notebooks = sorted(path.stem for path in folder.glob("*.ipynb"))
        assert notebooks == sorted(path.stem for path in TUTORIALS.glob("[0-9]*.py")) and f"{len(notebooks)} lessons" in said
        for name in ("conftest.py", "pytest.ini", *(f"exercises/{path.name}" for path in EXERCISES.glob("*.py"))):
            assert (folder / name).read_bytes() == (TUTORIALS / name).read_bytes()
        readme = (folder / "README.md").read_text()
        assert "00_quickstart.ipynb" in readme and "00_quickstart.py" not in readme
        assert not [path for path in folder.rglob("*") if "solution" in path.name]


def test_nothing_of_a_students_is_overwritten(plain_notebooks, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "mine"
    (folder / "exercises").mkdir(parents=True)
    (folder / "exercises/lesson03.py").write_text("my work")
    assert main(["course", str(folder)]) == 2
    assert f"{folder} holds something already, which is not overwritten (exercises); name a folder" in capsys.readouterr().err
    assert [path.name for path in folder.rglob("*")] == ["exercises", "lesson03.py"]
    assert (folder / "exercises/lesson03.py").read_text() == "my work"
    assert main(["course", str(folder / "exercises/lesson03.py")]) == 2
    assert "lesson03.py is a file; name a folder that is empty or new" in capsys.readouterr().err
    assert main(["course"]) == 2 and main(["course", str(tmp_path / "x"), "--over"]) == 2 and not (tmp_path / "x").exists()
    assert "Traceback" not in capsys.readouterr().err
    # A file that comes while the course is written stays, and of the course nothing does.
    late = tmp_path / "late"
    contents = course.contents

    def and_somebody_writes(lessons):
        made = contents(lessons)
        late.mkdir()
        (late / "pytest.ini").write_text("mine")
        return made

    monkeypatch.setattr(course, "contents", and_somebody_writes)
    assert main(["course", str(late)]) == 1
    assert "pytest.ini: File exists" in capsys.readouterr().err
    assert [path.name for path in late.rglob("*") if path.is_file()] == ["pytest.ini"] and (late / "pytest.ini").read_text() == "mine"


def test_without_lessons_one_sentence_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(course, "HERE", tmp_path / "nowhere")
    assert main(["course", str(tmp_path / "new")]) == 1
    assert "the lessons are missing beside" in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_lesson_becomes_a_notebook(script, monkeypatch):
    made = json.loads(course.notebook(script))
    kinds = [cell["cell_type"] for cell in made["cells"]]
    assert kinds[0] == "markdown" and kinds.count("code") > 5 and kinds.count("markdown") > 5
    source = script.read_text()
    for cell in made["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert text in source and not cell["outputs"]
        else:
            assert not re.search(notebook.LESSON, text), text
    folded = [cell["metadata"]["jupyter"] for cell in made["cells"] if "jupyter" in cell["metadata"]]
    assert folded == [{"source_hidden": True}] * source.count(f"# %%{FOLDED}\n") and folded
    nbformat = pytest.importorskip("nbformat", reason="nbformat, which jupytext brings, is not installed")
    nbformat.validate(nbformat.reads(json.dumps(made), as_version=4))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_is_jupytexts(script):
    """Cell by cell: our few lines read the percent format as its maker does."""
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed: pip install '.[test]'")
    theirs = jupytext.reads(script.read_text(), fmt="py:percent")
    ours = json.loads(course.notebook(script))
    assert ours["metadata"]["kernelspec"] == theirs.metadata["kernelspec"]
    assert [(cell["cell_type"], "".join(cell["source"]), cell["metadata"]) for cell in ours["cells"]] == [
        (cell.cell_type, notebook.as_notebooks(cell.source) if cell.cell_type == "markdown" else cell.source,
         {key: value for key, value in cell.metadata.items() if key != "lines_to_next_cell"}) for cell in theirs.cells]


#: Lessons whose cells run twice in seconds, and two that train by hand and with the package, and compare.
QUICK_TWICE = ("01", "02", "03", "04", "05", "08", "09", "11")


def code_cells(script):
    """(what stands behind '# %%', code) of every code cell of a lesson."""
    cells = [cell.partition("\n") for cell in re.split(r"(?m)^# %%", script.read_text())[1:]]
    return [(head, code) for head, _, code in cells if head != " [markdown]"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_cells_are_short_and_drawings_stand_in_folded_cells_of_their_own(script):
    for head, code in code_cells(script):
        lines = [line for line in code.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) <= 30, f"a cell of {len(lines)} lines is too long to hold: {lines[0]}"
        draws = "plot.chart(" in code or "plot.new_figure(" in code
        assert head == (FOLDED if draws else ""), f"folded are drawings, and nothing else: {lines[0]}"
        if draws:  # what the claims need is computed in sight
            kinds = [type(statement) for statement in ast.parse(code).body]
            assert kinds in ([ast.FunctionDef, ast.Expr], [ast.FunctionDef, ast.If]), f"more than draw and show: {lines[0]}"
            assert f'plot.show("{script.stem[:2]}_' in lines[-1]
            (drawing,) = (part for part in ast.parse(code).body if isinstance(part, ast.FunctionDef))
            assert len(ast.get_docstring(drawing) or "") > 40, f"in words, for who cannot see it: {lines[0]}"
        elif "plot.show(" in code:
            assert ', alt="' in code, f"in words, for who cannot see it: {lines[0]}"


def test_a_picture_is_shown_with_its_words(monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setenv("MINIMASK_FIGURES", str(tmp_path))

    @minimask.plot.chart(2, 2)
    def draw(ax):
        """A line
        that rises."""
        ax.plot([0, 1])

    minimask.plot.show("line", draw)
    assert capsys.readouterr().out == f"picture: {tmp_path / 'line.png'} (A line that rises.)\n"
    display = pytest.importorskip("IPython.display", reason="IPython is not installed")
    shown = []
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    monkeypatch.setattr(display, "display", shown.append)
    minimask.plot.show("line", draw)
    minimask.plot.show("line", draw, alt="Other words.")
    assert [image._repr_mimebundle_()[1]["image/png"]["alt"] for image in shown] == ["A line that rises.", "Other words."]


@pytest.mark.once
@pytest.mark.parametrize("script", [
    pytest.param(path, marks=[] if path.stem[:2] in QUICK_TWICE else pytest.mark.slow, id=path.stem) for path in SCRIPTS])
def test_cells_that_run_twice_end_in_the_same_claims(script, monkeypatch, capsys):
    monkeypatch.setattr(minimask.plot, "show", lambda name, draw, alt="": None)
    names, claims = {"__name__": "__main__"}, []
    for number, (_, code) in enumerate(code_cells(script)):
        file = f"<{script.stem}, cell {number}>"  # by which inspect finds the source, as in a notebook
        monkeypatch.setitem(linecache.cache, file, (len(code), None, code.splitlines(keepends=True), file))
        for _ in range(2):
            exec(compile(code, file, "exec"), names)
            if (said := capsys.readouterr().out).endswith("all claims hold\n"):
                claims.append(said)
    assert len(claims) == 2 and claims[0] == claims[1]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_marimos_conversion_of_a_lesson_ends_in_the_same_claims(script, tmp_path):
    """It renames what two cells assign, makes `x = x + y` of `x += y`, and orders cells by the names that they use."""
    pytest.importorskip("marimo", reason="marimo is not installed: pip install 'marimo==0.25.*'")
    converted = tmp_path / f"{script.stem}_marimo.py"
    for words in (("-m", "marimo", "convert", script, "-o", converted), (converted,)):
        ran = python(*words, cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=580)
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert "all claims hold" in ran.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_lesson_says_what_it_is_for_and_where_it_ends(script):
    text = script.read_text()
    for words in ("**You will build**", "**You will learn**", "**You need to know**", "**It takes** about ", "## Exercises",
                  "## Further reading", "\nassert "):
        assert text.count(words) >= 1, words
    assert text.index("\nassert ") < text.index("## Exercises") < text.index("## Further reading")
