"""The pages that users read: short, their commands and examples work, their links lead somewhere, their picture is true."""

import contextlib
import importlib
import importlib.util
import io
import json
import re
import shlex
from typing import NamedTuple

import numpy as np
import pytest
from pages import PAGES, README, ROOT, blocks, commands
from test_names import is_there

from minimask import Tensor, nn, train, zoo
from minimask.engine import OPS
from minimask.interchange import layers
from minimask.mask import SignedSupermask

needs_checkout = pytest.mark.skipif(not (ROOT / "minimask").is_dir(), reason="looks at files of the checkout")


def test_the_readme_is_a_front_page():
    """Short, with one picture, which says in words what it shows, what a newcomer asks first, the way to everything else."""
    assert len(README.splitlines()) <= 200
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert ["Two commands", "From Python", "Learn", "Your own", "Results", "Read it"] == headings[:6]
    minutes, = re.findall(r"on two cores they took (\w+) minutes", README)
    assert f"on two cores the tests took {minutes} minutes" in PAGES["docs/changing.md"]
    picture, = re.findall(r"!\[(.*?)\]\((.*?)\)", README, re.DOTALL)
    assert picture[1] == "docs/mask.svg" and len(picture[0]) > 200
    assert {f"docs/{page}" for page in re.findall(r"\]\((\w[\w-]*\.md)\)", PAGES["docs/README.md"])} == (
        set(PAGES) - {"README.md", "docs/README.md"})


# ---- examples ------------------------------------------------------------------------------------------------------


class Begun(NamedTuple):
    """What README's eight lines left and printed, then its other examples, then those of docs/own.md."""

    eight: dict
    printed: str
    front: dict
    own: dict


def run(page, text, names):
    """Executes the examples in a page's text, in order, in these names; what they print."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for block in blocks("python", text):
            exec(compile(block, page, "exec"), names)
    return out.getvalue()


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    ops, names = dict(OPS), {}
    first, end, others = README.partition("prints `")
    with contextlib.chdir(tmp_path_factory.mktemp("pages")):
        printed = run("README.md", first, names)
        eight = dict(names)
        run("README.md", others, names)
        front = dict(names)
        run("docs/own.md", PAGES["docs/own.md"], names)
    yield Begun(eight, printed, front, names)
    OPS.clear()
    OPS.update(ops)


def test_the_readmes_examples_run_and_print_what_it_says(begun):
    """The eight lines: accuracy and weights left lie where those of ten seeds do, and beside what the README states.

    Which last digits a run has depends on the BLAS kernel, so accuracy may be two images (0.6 points) beside the range.
    """
    assert len(blocks("python", README)) == 4 and len(blocks("python", README)[0].strip().splitlines()) == 8
    stated = re.search(r"prints `([\d.]+)% with ([\d.]+)% left`", README)
    printed = re.fullmatch(r"([\d.]+)% with ([\d.]+)% left\n", begun.printed)
    ranges = re.findall(r"^\| `digits` \| \w+ \| [\d.]+ \(([\d.]+) to ([\d.]+)\) \| [\d.]+ \(([\d.]+) to ([\d.]+)\)",
                        PAGES["docs/results.md"], re.MULTILINE)
    assert len(ranges) == 2  # kernels
    for numbers in (stated, printed):
        accuracy, left = map(float, numbers.groups())
        assert min(float(r[0]) for r in ranges) - 0.6 <= accuracy <= max(float(r[1]) for r in ranges) + 0.6
        assert min(float(r[2]) for r in ranges) - 0.3 <= left <= max(float(r[3]) for r in ranges) + 0.3
    assert begun.front["net"].weights_left() == 1.0 and begun.front["net"].input_shape == (8, 8, 1)  # NeverHide
    last = begun.front["record"]["epochs"][-1]
    assert last["epoch"] == 30 and last["test_accuracy"] > 0.85 and last["weights_left"] < 0.8


@pytest.mark.parametrize("page", [page for page, text in PAGES.items()
                                  if "```python" in text and page not in ("README.md", "docs/own.md")])
def test_the_examples_of_a_page_run(page, begun, tmp_path, monkeypatch):
    """In order, after README's eight lines, with what docs/own.md defines. A block that cannot says so before it begins.

    That is a line of its own, <!-- not run: why -->.
    """
    if page == "docs/exports.md":
        for package in ("onnx", "torch"):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layers, "COUNTERPARTS", dict(layers.COUNTERPARTS))
    run(page, re.sub(r"^<!-- not run: [^>]+ -->\n```python\n.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE),
        begun.own | begun.eight)
    OPS.pop("cube", None)  # an op of docs/start.md


def test_the_step_by_hand_and_the_first_gradient_do_what_the_page_says(begun):
    step, gradient = blocks("python", PAGES["docs/start.md"])
    names = dict(begun.eight)
    before = [p.data.copy() for p in names["net"].parameters()]
    exec(compile(step, "docs/start.md", "exec"), names)
    assert all((a != p.data).any() for a, p in zip(before, names["net"].parameters()))
    try:
        printed = run("docs/start.md", f"```python\n{gradient}```\n", names)
    finally:
        OPS.pop("cube", None)
    assert printed.strip() == re.search(r"print\(x.grad\)  # a plain array: (.*)", gradient)[1]
    assert np.count_nonzero(names["x"].grad) == 2


def test_own_examples_do_what_the_page_says(begun, tmp_path):
    """The rule keeps two of four; the net with noise and Adam learns, and a stopped run ends in the same bits."""
    assert begun.own["halved"].weights_left() == 0.5
    mask = next(iter(begun.own["halved"].masks().values()))
    assert (np.count_nonzero(mask.reshape(-1, 4), axis=1) == 2).all()
    assert begun.own["record"]["epochs"][-1]["test_accuracy"] > 0.8

    def made():
        rng = np.random.default_rng(5)
        net = nn.Sequential([nn.Flatten(), begun.own["Noise"](0.2, rng),
                             nn.Dense(64, 10, SignedSupermask(tau=0.01), rng)], (8, 8, 1))
        return net, begun.own["digits"], begun.own["Adam"](net.parameters()), 3, rng

    def stop(record):
        raise KeyboardInterrupt

    whole, stopped, resumed = made(), made(), made()
    train.fit(*whole)
    with pytest.raises(KeyboardInterrupt):
        train.fit(*stopped, checkpoint=tmp_path / "run.npz", on_epoch=stop)
    train.fit(*resumed, checkpoint=tmp_path / "run.npz", resume=True)
    for a, b in zip(whole[0].parameters(), resumed[0].parameters()):
        np.testing.assert_array_equal(a.data, b.data)


def test_adam_of_the_page_steps_as_pytorchs(begun, torch, rng):
    ours = begun.own["Adam"]([Tensor(rng.standard_normal((4, 3)), requires_grad=True)], lr=0.01)
    theirs = torch.tensor(ours.parameters[0].data.copy(), requires_grad=True)
    adam = torch.optim.Adam([theirs], lr=0.01)
    for _ in range(10):
        g = rng.standard_normal((4, 3))
        ours.parameters[0].grad, theirs.grad = g, torch.tensor(g)
        ours.step()
        adam.step()
    np.testing.assert_allclose(ours.parameters[0].data, theirs.detach().numpy(), rtol=1e-12)


# ---- commands, names and numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page, line", [pair for pair in commands() if pair[1].startswith("minimask")])
def test_every_command_of_the_pages_is_one(page, line):
    """Its name, its options and how many words it takes; what they mean is not looked at, and nothing is done."""
    name, *words = shlex.split(re.sub(r" >.*", "", line).removeprefix("minimask "))
    parser = importlib.import_module(f"minimask.cli.{name}")._parser()
    (parser.parse_intermixed_args if name == "data" else parser.parse_args)(words)


#: Modules that the pages name functions of.
MODULES = ("anatomy|backend|checkpoint|data|export|init|interchange|mask|models|nn|ops|optim|plot|predict|prune|recipes|"
           "runs|train|zoo")


def test_what_the_pages_name_in_a_line_is_there():
    named = {pair for text in PAGES.values() for pair in re.findall(rf"`(?:minimask\.)?({MODULES})\.(\w+)\(", text)}
    named -= {("mask", "astype")}  # a mask, which is an array
    missing = {pair for pair in named if not is_there(f"minimask.{pair[0]}", pair[1])}
    assert len(named) > 10 and not missing, missing


@needs_checkout
def test_what_the_pages_count():
    """Lessons, and nets of the zoo."""
    words = dict(enumerate("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()))
    lessons = words[len(list((ROOT / "tutorials").glob("[0-9][0-9]_*.py")))].capitalize()
    for page in ("README.md", "docs/teaching.md"):
        assert f"\n{lessons} lessons" in PAGES[page]
    assert f"{len(zoo.entries())} trained nets come with the package" in PAGES["docs/predict.md"]


# ---- the picture, and links ----------------------------------------------------------------------------------------


@needs_checkout
def test_the_readmes_picture_is_that_of_the_zoo_and_its_words_too():
    specification = importlib.util.spec_from_file_location("picture", ROOT / "benchmarks/picture.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.picture() == module.PICTURE.read_text(encoding="utf-8"), "run: python benchmarks/picture.py --write"
    first, *_, last = json.loads((ROOT / "benchmarks/records/fcn-seed0.json").read_text())["epochs"]
    words = " ".join(re.search(r"!\[(.*?)\]", README, re.DOTALL)[1].split())
    assert (f"from {first['test_accuracy']:.0%} after one epoch to {last['test_accuracy']:.1%} after {last['epoch']}, "
            f"while the weights left fall from {first['weights_left']:.0%} to {last['weights_left']:.1%}"
            ) in words.replace(" %", "%")


WRITTEN = [*PAGES, "tutorials/README.md", "benchmarks/README.md", "findings/README.md"]


def anchors(text):
    """What a link into a page may name: its headings, as GitHub writes them, in order."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings]


@needs_checkout
@pytest.mark.parametrize("page", WRITTEN)
def test_no_page_has_two_headings_of_a_name(page):
    found = anchors((ROOT / page).read_text(encoding="utf-8"))
    assert len(found) == len(set(found)), found


@needs_checkout
@pytest.mark.parametrize("page", WRITTEN)
def test_every_link_of_the_pages_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = ROOT / page if not file else (ROOT / page).parent / file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link
