"""`minimask grade`: a class of which most are hostile, marked once; what each of them gets, and what is written."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import hypothesis
import pytest
from processes import FEW_PLUGINS

import minimask
from minimask.__main__ import main
from minimask.testing import grading, handed_in, marking, marks, submission

pytestmark = [pytest.mark.once, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")]

TESTS = """
import numpy as np
import pytest
from hypothesis import given, strategies as st
from minimask.testing.marking import claim, expect

pytestmark = pytest.mark.lesson03
POINTS = {2: 5}
TASK1, TASK2, TASK3 = (f"Lesson 3, task {i}" for i in (1, 2, 3))

def test_task1_double(lesson):
    expect(lesson.double(np.array([1.0, 2.0])), np.array([2.0, 4.0]), TASK1, hint="twice")

@given(n=st.integers(0, 5))
def test_task2_triple(lesson, n):
    expect(lesson.triple(np.array([1.0 + n])), np.array([3.0 + 3 * n]), TASK2)

def test_task2_needs_what_is_not_there():
    pytest.importorskip("nowhere")

def test_task3_half(lesson, rng):
    x = rng.standard_normal(1)
    expect(lesson.half(x), x / 2, TASK3)

def test_task3_half_again(lesson):
    expect(lesson.half(np.array([1.0])), np.array([0.5]), TASK3)
"""
GOOD = """
import os, sys, time
import numpy as np

def double(x):
    return 2 * x

def triple(x):
    {}
    return 3 * x

def half(x):
    return x / 2
"""
WRONG = GOOD.replace("3 * x", "4 * x")
#: name -> files, points of 7, and what the feedback must say. Task 2 has 5 points.
CLASS = {
    "ada": ({"exercises/lesson03.py": "from helper import two\n" + GOOD.replace("2 * x", "two * x").format("pass"),
             "exercises/helper.py": "two = 2", "notes.txt": ""}, 7, "solved"),
    "skips": ({"lesson03.py": WRONG.format("import pytest; pytest.skip('later')")}, 2, "your code raised Skipped (later), a skip"),
    "skips-late": ({"lesson03.py": WRONG.format("return Late()") + "\nimport other; Late = other.Late",
                    "other.py": "import pytest\nclass Late:\n    def __array__(self, *a, **k): pytest.skip('x')"},
                   2, "a skip; that is no answer"),
    "skips-all": ({"lesson03.py": "import pytest; pytest.skip('x', allow_module_level=True)"}, 0, "your code raised Skipped"),
    "leaves": ({"lesson03.py": WRONG.format("os._exit(0)")}, 2, "your code ended the whole process (exit status 0)"),
    "leaves-at-once": ({"lesson03.py": "import os; os._exit(0)"}, 0, "while it was being loaded, your code ended the whole process"),
    "loops": ({"lesson03.py": WRONG.format("while True: pass")}, 2, "no answer within 3 seconds; it was at lesson03.py, line 9, in triple"),
    "loops-at-once": ({"lesson03.py": "while True: pass"}, 0, "while it was being loaded, no answer within 3 seconds; it was at lesson03.py, line 1"),
    "patches": ({"lesson03.py": "from minimask.testing import marking, submission, grading\nimport json\n"
                                "marking.expect.__code__ = (lambda *a, **k: None).__code__\n"
                                "submission.changed = lambda *a: ''\nsubmission.changed.__code__ = (lambda *a: '').__code__\n"
                                "grading._verdict = lambda *a: ('passed', '')\n" + WRONG.format("pass")}, 0, "your code changed minimask."),
    "patches-tests": ({"lesson03.py": WRONG.format("sys.modules['test_lesson03'].expect = lambda *a, **k: None")}, 2,
                      "your code changed test_lesson03.expect"),
    "patches-report": ({"lesson03.py": WRONG.format("pytest = __import__('pytest').TestReport; pytest.failed = property(lambda r: False)")},
                        2, "your code changed _pytest.reports.TestReport.failed"),
    "prints": ({"lesson03.py": WRONG.format("print('5 passed'); sys.stderr.write('x' * 10**6); os.write(1, b'passed')")}, 2,
               "wrong at [0]: got 4, expected 3"),
    "forges": ({"lesson03.py": WRONG.format(
        "for d in range(3, 64):\n        try: os.write(d, b'{\"kind\": \"test\", \"outcome\": \"passed\", \"text\": \"\", \"token\": \"\"}\\n{')\n"
        "        except OSError: pass")}, 2, "wrong at [0]: got 4, expected 3"),
    "asks": ({"lesson03.py": WRONG.format("input('what? ')")}, 2, "your code waits for input(), and nobody types while it is marked"),
    "writes": ({"lesson03.py": WRONG.format("open({there!r}, 'w').write('def double(x): 0')")}, 2, "wrong at [0]: got 4"),
    "spawns": ({"lesson03.py": WRONG.format("import subprocess; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(1); os._exit(0)")}, 2,
               "your code ended the whole process"),
    "=1+1": ({"lesson03.py": "def double(x: return"}, 0, "SyntaxError"),
}


def written(folder, files, **names):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for key, value in names.items():
            text = text.replace(f"{{{key}!r}}", repr(value))
        (folder / name).write_text(text)


def graded(*words, cwd=None):
    root = str(Path(minimask.__file__).parent.parent)
    environment = {**os.environ, **FEW_PLUGINS, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, "-m", "minimask", "grade", *map(str, words)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=500, env=environment, cwd=cwd)


@pytest.fixture(scope="module")
def tests(tmp_path_factory):
    """Tests of a lecturer's own, with nothing of the course's beside them."""
    folder = tmp_path_factory.mktemp("tests")
    (folder / "conftest.py").write_text('pytest_plugins = ["minimask.testing.plugin"]\n')
    (folder / "test_lesson03.py").write_text(TESTS)
    return folder


@pytest.fixture(scope="module")
def marked(tests, tmp_path_factory):
    """The class, marked once: where, what was said, and what was written."""
    place = tmp_path_factory.mktemp("class")
    room, out = place / "handed in", place / "out"
    child = f"import time\nfor _ in range(600):\n    open({str(place / 'alive')!r}, 'a').write('x'); time.sleep(0.1)"
    for name, (files, _, _) in CLASS.items():
        written(room / name, files, there=str(room / "ada/exercises/lesson03.py"), child=child)
    written(room, {"bob_lesson03.py": "import helper\n" + GOOD.format("pass"), "bob_helper.py": "", ".hidden_lesson03.py": ""})
    (room / "links").mkdir()
    (room / "links/lesson03.py").symlink_to(room / "ada/exercises/lesson03.py")
    began = time.monotonic()
    ran = graded(room, "--tests", tests, "--lessons", "3", "--limit", 3, "--seed", 7, "--jobs", 3, "--csv", out / "m.csv",
                 "--feedback", out, "--gradescope", out, cwd=room)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with open(out / "m.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    return place, ran, rows, time.monotonic() - began


@pytest.mark.python
@pytest.mark.parametrize("name", CLASS)
def test_nothing_earns_a_point_but_an_answer(marked, name):
    place, _, rows, _ = marked
    _, points, sentence = CLASS[name]
    row = rows["'=1+1" if name == "=1+1" else name]
    feedback = (place / f"out/{name}.md").read_text()
    assert float(row["points"]) == points and row["of"] == "7", feedback
    assert ("wrote into the pipe" in row["remarks"]) is (name == "forges")
    assert sentence in feedback and "Traceback" not in feedback and "\x1b" not in feedback, feedback
    scores = json.loads((place / f"out/{name}.json").read_text())
    assert scores["score"] == float(row["points"]) == sum(test["score"] for test in scores["tests"])
    assert [test["max_score"] for test in scores["tests"]] == [1, 5, 1]


@pytest.mark.python
def test_the_others_are_marked_as_if_they_were_alone(marked):
    place, ran, rows, _ = marked
    assert rows["bob"]["points"] == "7" and len(rows) == len(CLASS) + 2
    assert "def double(x): 0" in (place / "handed in/ada/exercises/lesson03.py").read_text(), "else nothing was tried"
    assert rows["links"]["points"] == "0" and "is a link, which is not followed" in rows["links"]["remarks"]
    assert "was changed or removed" in rows["writes"]["remarks"] and "ada" in rows["writes"]["remarks"]
    assert ran.stdout.splitlines()[0].split() == ["submission", "03", "points"]
    assert "ada             123  7 of 7" in ran.stdout and "19 submissions" in ran.stdout
    assert "100% · " in ran.stderr and "passed" not in ran.stderr
    sizes = []
    for _ in range(2):  # a process that was left behind would still be writing
        sizes.append((place / "alive").stat().st_size if (place / "alive").exists() else 0)
        time.sleep(1 - len(sizes) / 2)
    assert sizes[0] == sizes[1]
    assert not (place / "handed in/.hypothesis").exists(), "nothing is written to what was handed in"


def test_the_same_marks_where_nothing_forks(tests, tmp_path, monkeypatch):
    """Windows' way: pytest once for each submission."""
    for name in ("ada", "leaves", "asks"):
        written(tmp_path / name, CLASS[name][0])
    code = ("import os; del os.fork\nfrom pathlib import Path\nfrom minimask.testing import grading, handed_in\n"
            f"found = handed_in.submissions(Path({str(tmp_path)!r}))\n"
            f"print([(m.name, m.points, [t.failures for t in m.tasks]) for m in grading.grade(found, grading.Settings(Path({str(tests)!r})))])")
    root = str(Path(minimask.__file__).parent.parent)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **FEW_PLUGINS, "PYTHONPATH": root},
                         timeout=300)
    assert ran.returncode == 0, ran.stderr
    marks_ = {name: (points, str(failures)) for name, points, failures in eval(ran.stdout)}
    assert {name: points for name, (points, _) in marks_.items()} == {"ada": 7, "asks": 2, "leaves": 2}
    assert "ended the whole process (exit status 0)" in marks_["leaves"][1]
    assert "your code waits for input()" in marks_["asks"][1]


def test_a_reference_that_fails_stops_the_marking(tests, tmp_path):
    written(tmp_path / "class/ada", CLASS["ada"][0])
    written(tmp_path / "reference", {"lesson03.py": WRONG.format("pass")})
    ran = graded(tmp_path / "class", "--tests", tests, "--solutions", tmp_path / "reference", "--quiet")
    assert ran.returncode == 1 and ran.stdout == "", ran.stdout
    assert "the reference solution of lesson 03, task 2 does not pass its tests with seed 0, so nobody was marked" in ran.stderr
    written(tmp_path / "reference", {"lesson03.py": GOOD.format("pass")})
    ran = graded(tmp_path / "class", "--tests", tests, "--solutions", tmp_path / "reference", "--quiet")
    assert ran.returncode == 0 and "7 of 7" in ran.stdout and ran.stderr == ""


def test_which_submissions_a_folder_holds(tmp_path):
    def names(**settings):
        return {s.name: {number: sorted(files) for number, files in s.work.items()}
                for s in handed_in.submissions(tmp_path, **settings)}

    written(tmp_path, {"ada_lesson03.py": "1", "ada_lesson04.py": "2", "ada_tools.py": "3", "lesson04-bob.py": "4",
                       "carl/deep/exercises/lesson03.py": "5", "carl/lesson03.py": "6", "carl/deep/exercises/data/x.csv": "7",
                       "carl/deep/exercises/__pycache__/x.pyc": "", "carl/.git/lesson04.py": "8", "notes.txt": ""})
    both = ["lesson03.py", "lesson04.py", "tools.py"]
    assert names() == {"ada": {"03": both, "04": both}, "bob": {"04": ["lesson04.py"]},
                       "carl": {"03": ["data/x.csv", "lesson03.py"]}}
    assert names(lessons=["04"])["carl"] == {}
    carl = handed_in.submissions(tmp_path)[2]
    assert carl.work["03"]["lesson03.py"] == b"5" and "marked is deep/exercises/lesson03.py" in carl.remarks[0]
    assert [s.name for s in handed_in.submissions(tmp_path / "carl")] == ["carl"], "a submission itself"
    written(tmp_path / "flat", {"ada.py": "1", "bob.py": "2"})
    assert [s.name for s in handed_in.submissions(tmp_path / "flat", ["03"])] == ["ada", "bob"]
    for folder, sentence in ((tmp_path / "flat", "holds no submission; expected is NAME/lesson03.py"),
                             (tmp_path / "nowhere", "is no folder; name one with a sub-folder")):
        with pytest.raises(minimask.UsageError, match=sentence):
            handed_in.submissions(folder)


@pytest.mark.parametrize(("name", "number"), [
    ("Lesson3.py", "03"), ("lesson_03.py", "03"), ("leson03.PY", "03"), ("lesson03 (1).py", "03"), ("exercise3.py", "03"),
    ("lesson03.py.txt", "03"), ("03.ipynb", "03"), ("LESSON-13.py", "13"), ("ada_Lesson3.py", "03"),
    ("test_lesson03.py", ""), ("helper3.py", ""), ("lesson103.py", ""), ("numpy2.py", ""), ("lesson.py", ""), ("lesson3.csv", "")])
def test_which_lesson_a_name_is_near_to(name, number):
    assert handed_in.near_to(name) == number


def test_a_file_that_is_called_almost_as_wanted_is_named(tests, tmp_path, capsys):
    """It gets no points, and both the student and whoever marks read why; also where nobody's name is right."""
    good = GOOD.format("pass")
    written(tmp_path / "class", {"ada/exercises/Lesson3.py": good, "bob/lesson03.py": good, "bob/lesson04_notes.txt": "",
                                 "carl/test_lesson03.py": ""})
    words = ["grade", str(tmp_path / "class"), "--tests", str(tests), "--quiet", "--feedback", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "ada: there is no file lesson03.py; near to that name is exercises/Lesson3.py" in said
    assert "bob: there is no file lesson04.py; near to that name is lesson04_notes.txt" in said
    assert "near to that name is exercises/Lesson3.py" in (tmp_path / "out/ada.md").read_text()
    assert "near" not in (tmp_path / "out/carl.md").read_text() and "carl:" not in said
    assert main([*words, "--lessons", "3"]) == 0
    said = capsys.readouterr().out
    assert "ada: there is no file lesson03.py" in said and "bob:" not in said
    written(tmp_path / "flat", {"ada_Lesson3.py": good, "bob_lesson03.py": good, "bob-lesson03.py": "", "Lesson3.py": ""})
    flat = {one.name: (sorted(one.work), one.remarks) for one in handed_in.submissions(tmp_path / "flat")}
    assert flat == {"ada": ([], ["there is no file lesson03.py; near to that name is ada_Lesson3.py"]),
                    "bob": (["03"], ["there are several files for lesson 03; marked is bob_lesson03.py"]),
                    "flat": ([], ["there is no file lesson03.py; near to that name is Lesson3.py"])}
    for place in ("class/ada", "class/ada/exercises"):
        with pytest.raises(minimask.UsageError, match=r"holds no submission; .* near to that name is (exercises/)?Lesson3\.py"):
            handed_in.submissions(tmp_path / place)


def test_the_name_of_a_file_is_tamed_and_so_are_many_of_them(tests, tmp_path):
    """Nobody's terminal obeys it, and nobody reads a thousand."""
    written(tmp_path / "class", {"ada/lesson03.py": GOOD.format("pass"), "bob/Lesson3 \x1b[31m.py": "",
                                 **{f"carl/lesson3_{i}.py": "" for i in range(9)}})
    marked = {mark.name: mark for mark in grading.grade(handed_in.submissions(tmp_path / "class"), grading.Settings(tests))}
    assert "Lesson3 \ufffd[31m.py" in marks.feedback(marked["bob"]) and "\x1b" not in marks.feedback(marked["bob"])
    assert "\x1b" not in marks.table(list(marked.values())) + marks.summary(list(marked.values()))
    assert marked["carl"].remarks == ["there is no file lesson03.py; near to that name are lesson3_0.py, lesson3_1.py, "
                                      "lesson3_2.py, lesson3_3.py, lesson3_4.py and 4 more"]


def test_a_signal_ends_the_marking_in_words(tests, tmp_path, monkeypatch, capsys):
    """Also while the tests are collected, where pytest itself catches it."""
    sentence = "minimask: interrupted; no marks were written, and the same command begins anew\n"
    written(tmp_path / "class/ada", {"lesson03.py": GOOD.format("pass")})
    written(tmp_path / "tests", {"conftest.py": (tests / "conftest.py").read_text(),
                                 "test_lesson03.py": "import signal; signal.raise_signal(signal.SIGTERM)\n" + TESTS})
    ran = graded(tmp_path / "class", "--tests", tmp_path / "tests", "--quiet")
    assert (ran.returncode, ran.stderr) == (143, sentence)
    monkeypatch.setattr(grading._Forking, "run", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert main(["grade", str(tmp_path / "class"), "--tests", str(tests), "--quiet"]) == 143
    assert capsys.readouterr().err == sentence


VICTIM = """if not os.path.exists({pid!r}):
        with open({pid!r} + '.new', 'w') as file: file.write(str(os.getpid()))
        os.rename({pid!r} + '.new', {pid!r}); time.sleep(60)"""
DEADLY = """end = time.monotonic() + 60
    while not os.path.exists({pid!r}) and time.monotonic() < end: time.sleep(0.01)
    if not os.path.exists({pid!r} + '.done'):  # once: later the number may be another process's
        open({pid!r} + '.done', 'w').close()
        os.kill(int(open({pid!r}).read()), {number!r})"""


@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT", pytest.param("SIGSTOP", marks=pytest.mark.slow)])
def test_who_is_ended_by_another_is_marked_again_alone(number, tests, tmp_path, capsys):
    """And loses no point; whoever ends their own process does, also when they are alone."""
    number = getattr(signal, number)
    for name, code in (("ada", VICTIM), ("bob", DEADLY), ("carl", f"os.kill(os.getpid(), {int(signal.SIGTERM)})")):
        written(tmp_path / "class" / name, {"lesson03.py": GOOD.format(code)}, pid=str(tmp_path / "pid"), number=int(number))
    found = handed_in.submissions(tmp_path / "class")
    limit = 3 if number == signal.SIGSTOP else 60
    ada, bob, carl = grading.grade(found, grading.Settings(tests, limit=limit, jobs=3))
    assert (ada.points, bob.points, carl.points) == (7, 7, 2), [ada, bob, carl]
    assert ada.remarks == ["its process was ended while bob, carl were being marked, and not when it was marked again alone: "
                           "its points are of then"]
    assert not bob.remarks and not carl.remarks
    assert any("your code ended the whole process (signal 15)" in text for task in carl.tasks for text in task.failures)


def test_a_submission_has_no_end_of_a_pipe_but_its_own(tests, tmp_path):
    """What others say, it could take away by reading, or open by /proc to write into. What the process that marks had
    itself (pytest-xdist's has a pipe) is not meant."""
    had = [d for d in range(3, 200) if os.path.exists(f"/dev/fd/{d}")]
    code = """import fcntl, stat
    while len(os.listdir({room!r})) < 2:  # both are at work
        open(os.path.join({room!r}, str(os.getpid())), 'w').close(); time.sleep(0.01)
    raise ValueError([d for d in range(3, 200) if d not in {had!r} and os.path.exists('/dev/fd/%d' % d)
                      and stat.S_ISFIFO(os.fstat(d).st_mode) and fcntl.fcntl(d, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY])"""
    (tmp_path / "room").mkdir()
    for name in ("ada", "bob"):
        written(tmp_path / "class" / name, {"lesson03.py": GOOD.format(code)}, room=str(tmp_path / "room"), had=had)
    for mark in grading.grade(handed_in.submissions(tmp_path / "class"), grading.Settings(tests, jobs=2)):
        assert any("ValueError: []" in text for task in mark.tasks for text in task.failures), mark


def test_wrong_words_are_sentences(tmp_path, capsys):
    written(tmp_path / "ada", {"lesson77.py": ""})
    for words, sentence in (([tmp_path / "none"], "is no folder"), ([tmp_path], "there are no tests for lesson 77"),
                            ([tmp_path, "--lessons", "x"], "'x' is no number of a lesson"),
                            ([tmp_path, "--limit", "0"], "is no number of seconds above 0"),
                            ([tmp_path, "--lessons", "03"], "holds no submission of lesson 03")):
        assert main(["grade", *map(str, words)]) == 2
        assert sentence in capsys.readouterr().err


def test_a_text_of_a_submission_is_tamed():
    assert grading.tame("a\x1b[31mb\tc\x00\nd") == "a\ufffd[31mb   c\ufffd\nd".replace("b   c", "b" + " " * (4 - len("a?[31mb") % 4) + "c")
    assert len(grading.tame("x" * 10**5)) < 6100
    task = grading.Task("03", 1, failures=["```\n# no heading"])
    assert "````text\n```\n# no heading\n````" in marks.feedback(grading.Mark("ada", [task]))
    assert marks.table([grading.Mark('=HYPERLINK("x")', [task])]).splitlines()[1].startswith("\"'=HYPER")


def test_a_failures_first_line_says_what_was_wrong():
    task, broken = "Lesson 3, task 1", 'E     File "/marked/lesson03.py", line 2\nE       for m in x\nE   SyntaxError: none'
    assert grading.words(broken, "/marked", task).splitlines() == [
        f"{task}: SyntaxError: none", '  File "lesson03.py", line 2', "    for m in x"]
    chained = f"E   Skipped: later\n\nDuring handling:\nE   AssertionError: {task}: your code raised Skipped (later)"
    assert grading.words(chained, "/marked", task) == f"{task}: your code raised Skipped (later)"


def test_a_remark_stands_once_in_the_table():
    mark = grading.Mark("ada", [grading.Task("03", 1)], ["a.py, b.py were changed or removed"] * 2)
    assert marks.table([mark]).splitlines()[1] == 'ada,0,0,1,"a.py, b.py were changed or removed"'


def test_the_check_of_what_marks_cannot_be_patched_by_name(monkeypatch):
    rows, look = submission.fingerprint(sys.modules[__name__]), submission.sealed(submission.changed)
    assert look(rows) == ""
    monkeypatch.setattr(submission, "changed", lambda rows: "")
    assert look(rows) == "minimask.testing.submission.changed"
    monkeypatch.undo()
    monkeypatch.setitem(minimask.ops.OPS, "add", None)
    assert look(rows) == "minimask.engine.OPS.add"


def test_the_check_sees_a_test_that_given_no_longer_calls(monkeypatch):
    test = types.ModuleType("test_lesson03")
    test.test_task1 = hypothesis.given(hypothesis.strategies.integers())(lambda n: None)
    rows = submission.fingerprint(test)
    assert submission.changed(rows) == ""
    monkeypatch.setattr(test.test_task1.hypothesis, "inner_test", lambda n: None)
    assert submission.changed(rows) == "test_lesson03.test_task1.hypothesis.inner_test"


@pytest.mark.parametrize("owner, name, value", [
    (pytest.TestReport, "failed", property(lambda report: False)),  # a base class's, hidden by one of the same name
    (pytest.TestReport, "from_item_and_call", classmethod(lambda *words: None)),
    (marking, "np", None),
    (marking, "isinstance", lambda *words: True)], ids=["inherited", "classmethod", "module", "builtin"])
def test_the_check_sees_what_is_added_and_what_is_not_callable(monkeypatch, owner, name, value):
    rows = submission.fingerprint(sys.modules[__name__])
    assert submission.changed(rows) == ""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, value, raising=False)
        assert submission.changed(rows).endswith(f"{owner.__name__}.{name}")
    assert submission.changed(rows) == ""
