"""A course's folder: a choice of lessons, an update that leaves a student's files alone, how far one is, hints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import FEW_PLUGINS

import minimask
from minimask.__main__ import main
from minimask.testing import course

HERE = Path(__file__).parent.parent
SOLUTIONS = HERE / "solutions"


def python(*words, cwd):
    root = str(Path(minimask.__file__).parent.parent)
    environment = {**os.environ, **FEW_PLUGINS, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    environment.pop("CI", None)  # with which pytest's summary tells a failure's whole text
    done = subprocess.run([sys.executable, "-m", *map(str, words)], capture_output=True, text=True, env=environment, cwd=cwd,
                          stdin=subprocess.DEVNULL, timeout=300)
    return done.stdout + done.stderr


def test_a_choice_of_lessons(tmp_path, capsys):
    assert main(["course", str(tmp_path / "a"), "--lessons", "03,4"]) == 0
    assert "2 lessons, exercises to 2 of them" in capsys.readouterr().out
    names = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert names == sorted([course.MANIFEST, "03_broadcasting.ipynb", "04_add_an_op.ipynb", "README.md", "conftest.py", "pytest.ini",
                            *(f"exercises/{kind}lesson{n}.py" for kind in ("", "test_") for n in ("03", "04"))])
    for words, sentence in ((["--lessons", "77"], "unknown lesson '77'"), (["--lessons", "x"], "'x' is no number of a lesson"),
                            (["--update"], "holds no course to update")):
        assert main(["course", str(tmp_path / "b"), *words]) == 2
        assert sentence in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_an_update_renews_what_nobody_changed_and_nothing_else(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "mine"
    assert main(["course", str(folder), "--lessons", "03,04"]) == 0
    assert main(["course", str(folder), "--update"]) == 0 and f"{folder}/ is up to date" in capsys.readouterr().out
    mine, run = folder / "exercises/lesson03.py", folder / "03_broadcasting.ipynb"
    mine.write_text("my work")
    made = json.loads(run.read_text())
    made["cells"][-1]["metadata"], made["metadata"]["mine"] = {"run": 1}, "opened in an editor"  # run, but not written in
    run.write_text(json.dumps(made))
    noted = json.loads((folder / "04_add_an_op.ipynb").read_text())
    noted["cells"].append({"cell_type": "markdown", "id": "note", "metadata": {}, "source": ["my note"]})
    (folder / "04_add_an_op.ipynb").write_text(json.dumps(noted))
    (folder / "own.txt").write_text("mine")
    contents, same = course.contents, run.read_text()

    def newer(lessons=None):
        return {name: text.replace("Broadcasting", "Stretching").replace("Add an op", "Make an op") + (
            "# newer\n" if name.endswith(".py") else "") for name, text in contents(lessons).items()}

    monkeypatch.setattr(course, "contents", newer)
    assert main(["course", str(folder), "--update", "--lessons", "05"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^new: .*05_dense_net.ipynb", out) and "03_broadcasting.ipynb" in re.search("renewed: (.*)", out)[1]
    assert "yours, and left as they are: 04_add_an_op.ipynb, exercises/lesson03.py" in out
    assert mine.read_text() == "my work" and (folder / "own.txt").read_text() == "mine"
    assert json.loads((folder / "04_add_an_op.ipynb").read_text()) == noted
    assert "Stretching" in run.read_text() and run.read_text() != same
    assert (folder / "new/exercises/lesson03.py").read_text().endswith("# newer\n")
    assert "Make an op" in (folder / "new/04_add_an_op.ipynb").read_text()
    assert "newer" in (folder / "exercises/lesson04.py").read_text(), "a stub that nobody has touched is renewed"
    assert main(["course", str(folder), "--update"]) == 0 and f"{folder}/ is up to date" in capsys.readouterr().out
    (folder / course.MANIFEST).unlink()  # a course of an older version: whatever differs may be the student's
    assert main(["course", str(folder), "--update"]) == 0
    assert mine.read_text() == "my work" and json.loads((folder / "04_add_an_op.ipynb").read_text()) == noted


@pytest.mark.once
def test_status_says_what_is_solved_and_what_is_next(tmp_path, capsys):
    folder = tmp_path / "mine"
    course.write(folder, ["00", "08", "09"])
    (folder / "exercises/lesson00.py").write_text((SOLUTIONS / "lesson00.py").read_text())
    (folder / "exercises/lesson08.py").write_text((SOLUTIONS / "lesson08.py").read_text().replace("m * (1 - wd)", "m * wd"))
    out = python("minimask", "course", "status", folder, cwd=tmp_path)
    rows = [line.split() for line in out.splitlines()]
    assert [tuple(row[:2]) for row in rows[1:4]] == [("00", "123"), ("08", "1-3"), ("09", "---")], out
    assert f"5 of 9 tasks are solved; next: lesson 08, task 2, in {folder}: pytest -m lesson08 -k task2" in out
    assert "Lesson 8, task 2: of the 2 values that your answer has, number 0 (from 0) is wrong" in out
    assert main(["course", "status", str(tmp_path / "nowhere")]) == 2 and "holds no course" in capsys.readouterr().err


@pytest.mark.once
def test_pytest_alone_shows_one_task_and_a_second_hint_after_the_third_failure(tmp_path):
    folder = tmp_path / "mine"
    course.write(folder, ["00", "08"])
    first = python("pytest", cwd=folder)
    assert len(first.splitlines()) < 30 and first.count("NotImplementedError: ") == 1 and "1 failed" in first, first
    assert "0 tasks solved; the next is task1 of lesson00: write it in exercises/lesson00.py" in first
    wrong = (SOLUTIONS / "lesson00.py").read_text().replace("bits / 8", "bits")
    (folder / "exercises/lesson00.py").write_text(wrong)
    runs = [python("pytest", cwd=folder) for _ in range(3)]
    assert ["second hint" in run for run in runs] == [False, False, True], runs[-1]
    assert "2 tasks solved; the next is task3 of lesson00" in runs[0] and "hint:" in runs[0]
    assert "Lesson 0, task 3: Per layer: sum(" in runs[2]
    (folder / "exercises/lesson00.py").write_text((SOLUTIONS / "lesson00.py").read_text())
    assert "3 tasks solved; the next is task1 of lesson08" in python("pytest", cwd=folder)
    (folder / "exercises/lesson00.py").write_text(wrong)
    again = python("pytest", "exercises/test_lesson00.py", cwd=folder)
    assert "second hint" not in again and "tasks solved" not in again, "solved in between, so it is counted anew"


def test_every_task_has_a_second_hint():
    for path in sorted((HERE.parent / "tutorials/exercises").glob("test_lesson*.py")):
        text = path.read_text()
        names = {"pytest": pytest}
        exec(text[text.index("HINTS = {"):].partition("\n}\n")[0] + "\n}", names)
        assert set(names["HINTS"]) == {int(n) for n in re.findall(r"def test_task(\d)_", text)}, path.name


# ---- lessons and engines of one's own --------------------------------------------------------------------------------


@pytest.mark.once
def test_a_lesson_of_ones_own_from_the_template(tmp_path, capsys):
    folder = tmp_path / "own"
    assert main(["course", str(folder), "--template", "20"]) == 0 and "README.md says what to fill in" in capsys.readouterr().out
    assert main(["course", str(folder), "--template", "20"]) == 2 and "holds something already" in capsys.readouterr().err
    for numbers in ("03", "20,21"):
        assert main(["course", str(tmp_path / "x"), "--template", numbers]) == 2
        assert "give one number from 20 to 99" in capsys.readouterr().err
    out = python("pytest", "-m", "lesson20", cwd=folder)
    assert "3 failed" in out and out.count("NotImplementedError: Lesson 20, task ") == 2 and "task 2: leaky_op is a plain" in out, out
    assert "3 passed" in python("pytest", "-m", "lesson20", "--minimask-solutions=solutions", cwd=folder)
    (tmp_path / "in/ada").mkdir(parents=True)
    answer = (folder / "solutions/lesson20.py").read_text().replace("x > 0, x, a * x", "x > 0, x, 0.1 * x")
    (tmp_path / "in/ada/lesson20.py").write_text(answer)
    out = python("minimask", "grade", tmp_path / "in", "--tests", folder, "--solutions", folder / "solutions", "--seed", 4711,
                 "--quiet", cwd=tmp_path)
    assert "ada         -2  2 of 3" in out, out
    notebooks = json.loads((folder / "20_lesson.ipynb").read_text())
    exec("\n".join("".join(cell["source"]) for cell in notebooks["cells"] if cell["cell_type"] == "code"), {})
    assert "all claims hold" in capsys.readouterr().out


ENGINE = """
import numpy as np
from lesson01 import backward as walk  # the student's own, of task 2

class Value:
    def __init__(self, data, inputs=(), pullback=None):
        self.data, self.inputs, self.pullback, self.grad = data, inputs, pullback, None

OPERATIONS = {
    "multiply": lambda x, y: Value(x.data * y.data, (x, y), lambda g: (g * y.data, g * x.data)),
    "add": lambda x, y: Value(x.data + y.data, (x, y), lambda g: (g, g)),
    "tanh": lambda x: Value(np.tanh(x.data), (x,), lambda g: (g * (1 - np.tanh(x.data) ** 2) * FACTOR,)),
}

def value(data): return Value(data)
def data(value): return value.data
def operation(name, *values): return OPERATIONS[name](*values)
def backward(value, g): walk(value, g)
def gradient(value): return value.grad
"""


@pytest.mark.once
def test_an_engine_of_ones_own_is_checked(tmp_path):
    folder = tmp_path / "mine"
    course.write(folder, ["01"])
    words = ("pytest", "exercises/test_engine.py", "-rs", "-k", "operation or twice or second")
    out = python(*words, cwd=folder)
    assert "1 skipped" in out and "failed" not in out and "passed" not in out, out
    assert "engine.py is not filled in: five functions in exercises/engine.py, and your own engine is checked here" in out, out
    assert "failed" not in (out := python(*words, f"--minimask-solutions={SOLUTIONS}", cwd=folder)), out
    assert "1 skipped" in out and f"{SOLUTIONS}/engine.py is not there, and need not be" in out, out
    (folder / "exercises/lesson01.py").write_text((SOLUTIONS / "lesson01.py").read_text())
    (folder / "exercises/engine.py").write_text(ENGINE.replace("FACTOR", "1"))
    out = python(*words, cwd=folder)
    assert "6 passed, 8 skipped" in out and "your engine has no operation 'matmul'" in out, out
    (folder / "exercises/engine.py").write_text(ENGINE.replace("FACTOR", "1.01"))
    out = python("pytest", "exercises/test_engine.py", "-k", "tanh or broadcasting", cwd=folder)
    assert "GradientError: tanh: the gradient of input 0, shape (3, 4), is wrong" in out, out
    assert "11 failed" in out and "has shape (3, 4), expected is that of the input, (4,)" in out, "it does not undo broadcasting"
