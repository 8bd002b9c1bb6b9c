"""A marker in every text of every file that a command reads, and in names of files and folders: where does it come out?"""

import json
import re
import shutil
import xml.etree.ElementTree as xml
import zipfile
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from minimask import data, recipes, runs
from minimask.__main__ import main
from minimask.anatomy import page as anatomy_page
from minimask.runs.schema import TEXTS

#: What a terminal obeys (a colour, a bell, the beginning of a line, a new line, the reading direction), markup of HTML,
#: of Markdown and of matplotlib.
MARKER = "\x1b[31mowned\x07\r\x9b1m\nforged\u202e<img src=x onerror=owned>[a](b)|`*$x_{$"
#: The same for a folder's or a file's name.
NAME = MARKER.replace("/", "-")
DIGITS = replace(recipes.find("digits"), name="mine", epochs=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run, in a folder that nobody changes."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    runs.run(DIGITS, data.digits(), 0, folder)
    return folder


@pytest.fixture
def said(capsys):
    """Runs a command; gives what it printed, in which nothing may be that a terminal obeys, nor a line that is forged."""
    def run(*words, status=None):
        ended = main([str(word) for word in words])
        assert status is None or ended == status, capsys.readouterr()
        captured = capsys.readouterr()
        for text in captured:
            assert all(line.replace("\t", "").isprintable() for line in text.split("\n")), text
            assert not any(line.startswith("forged") for line in text.split("\n")), text
            assert "bug in minimask" not in text
        return captured
    return run


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def harmless_page(path):
    """A page that holds the marker as text alone: no tag, no attribute that is a handler, no control character."""
    text = path.read_text()
    assert all(line.isprintable() for line in text.split("\n"))
    for tag, attributes in Tags(text).found:
        assert not any(name.startswith("on") for name in attributes) and tag not in ("script", "iframe")
        assert tag != "img" or attributes["src"].startswith("data:image/png;base64,")
    return text


def planted_record(trained):
    """A record with the marker in all its texts that are not compared with anything."""
    record = json.loads((trained / "record.json").read_text())
    record["recipe"]["about"] = MARKER
    record["environment"] |= {**dict.fromkeys(TEXTS, MARKER), "other": MARKER, MARKER: [MARKER, {MARKER: MARKER}]}
    for entry in record["epochs"]:
        entry[MARKER] = MARKER
        for i, layer in enumerate(entry["layers"]):
            layer["name"] = f"{i}{MARKER}"
    return record | {MARKER: MARKER}


def test_in_a_report(trained, tmp_path, said):
    """Of a record, a recipe of one's own, a data set of one's own, broken files with such names."""
    place = tmp_path / NAME / "records"
    place.mkdir(parents=True)
    record = planted_record(trained)
    own = json.loads(json.dumps(record)) | {"dataset": f"x{MARKER}"[:100]}
    own["recipe"]["dataset"] = own["dataset"]
    (place / "a.json").write_text(json.dumps(record))
    (place / "own.json").write_text(json.dumps(own))
    (place / f"{NAME}.json").write_text("{")
    (place / "refused.json").write_text(json.dumps(record | {"seed": MARKER}))
    (place / "name.json").write_text(json.dumps({**record, "recipe": {**record["recipe"], "name": MARKER}}))
    (place / "again.json").write_text(json.dumps(record))
    (place / f"foreign{NAME}.json").write_text("{}")
    out = tmp_path / f"out{NAME}"
    words = said("report", place, "--out", out, status=0)
    assert "owned" in words.out and "owned" in words.err and words.out.count("x\\\\x1b") > 1
    text = harmless_page(out / "report.html")
    assert text.count("owned") > 10 and "refused" in text
    markdown = (out / "report.md").read_text()
    outside = re.sub(r"```toml\n.*?```", "", markdown, flags=re.DOTALL)
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", outside).replace("<!-- made by minimask report -->", "")
    assert "owned" in outside and not re.search(r"<|(?<!\\)(\[a|\*\$|\|`)", outside)
    assert sum(path.suffix == ".svg" for path in out.iterdir()) == 4
    for path in out.glob("*.svg"):
        tags = {element.tag.partition("}")[2] for element in xml.parse(path).iter()}
        assert tags == {"svg", "title", "desc", "path", "text"}
    for form in ("csv", "json", "latex", "svg"):
        words = said("report", place, "--out", out, "--format", form, status=0)
        assert "owned" in words.out or form == "json"
    tex = (out / "results.tex").read_text()
    assert not re.search(r"(?<!\\)[$&]x|(?<!\\)_", tex) and "\\textbackslash{}x1b" in tex


def test_in_the_records_files_and_names_of_a_run(trained, tmp_path, said):
    """Every command that takes a run's folder, whose name and record hold the marker, or whose parts are other ones."""
    folder = tmp_path / f"run{NAME}"
    shutil.copytree(trained, folder)
    other = json.loads((folder / "record.json").read_text())
    other["environment"] |= dict.fromkeys(TEXTS, MARKER)
    other["recipe"]["about"] = MARKER
    (folder / "record.json").write_text(json.dumps(other))
    file = tmp_path / f"{NAME}.mmk"
    assert "owned" in said("compare", folder, trained, status=0).out
    assert "owned" in said("export", folder, "-o", file, status=0).out
    assert "owned" in said("info", file, status=0).out
    assert said("compare", folder, trained, "--json", status=0).out.isascii()
    picture = tmp_path / f"{NAME}.npy"
    np.save(picture, data.digits().test_images[0])
    assert "owned" in said("predict", file, picture, status=0).out
    said("predict", file, tmp_path / f"none{NAME}.npy")
    said("train", "digits", "--resume", "--out", folder, "--quiet")
    (folder / "record.json").write_text(json.dumps(planted_record(trained)))
    for command in (("compare", folder, trained), ("export", folder, "-o", tmp_path / "a.mmk"), ("inspect", folder)):
        assert "owned" in said(*command, status=1).err
    (folder / "record.json").write_text(json.dumps({**other, "dataset": MARKER}))
    said("inspect", folder)
    said("export", folder, "-o", tmp_path / "b.mmk")


def test_in_members_of_archives_sweeps_and_recipes(trained, tmp_path, said):
    with zipfile.ZipFile(tmp_path / "masks.npz", "w") as archive:
        archive.writestr(f"{MARKER}.npy", b"none")
    assert "masks.npz" in said("compare", tmp_path / "masks.npz", trained, status=1).err
    np.savez(tmp_path / "named.npz", **{MARKER: np.zeros(3, np.int8)})
    said("compare", tmp_path / "named.npz", tmp_path / "named.npz", status=0)
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    with zipfile.ZipFile(folder / "network.npz", "a") as archive:
        archive.writestr(f"{MARKER}.npy", b"none")
    assert "owned" in said("compare", folder, trained, status=1).err
    (tmp_path / "sweep").mkdir()
    for index in ({"format": MARKER}, {"format": 1, "recipes": {MARKER: MARKER}, "runs": []}, {MARKER: 1},
                  {"format": 1, "recipes": {"digits": {MARKER: MARKER, "name": MARKER}}, "runs": [MARKER]}):
        (tmp_path / "sweep/sweep.json").write_text(json.dumps(index))
        said("sweep", "digits", "--epochs", "1", "--out", tmp_path / "sweep")
    toml = DIGITS.toml()
    recipe = tmp_path / f"{NAME}.toml"
    for text in (replace(DIGITS, about=MARKER).toml(), toml.replace('"mine"', json.dumps(MARKER)),
                 toml.replace("tau =", f"{json.dumps(MARKER)} ="), f"{json.dumps(MARKER)} = 1\n{toml}", MARKER,
                 toml.replace('model = "fcn"', f"model = {json.dumps(MARKER)}"),
                 toml.replace("lr = 0.05", f"lr = {json.dumps(MARKER)}")):
        recipe.write_text(text)
        said("recipes", recipe)
        said("train", recipe, "--quiet", "--out", tmp_path / "never" / "x", "--data", tmp_path)


@pytest.mark.once
def test_in_pages_and_figures_of_an_inspection(trained, tmp_path, drawn):
    """Class names and layer names of nets that are made in Python."""
    pytest.importorskip("matplotlib")
    digits = data.digits()
    names = data.Dataset(MARKER, digits.train_images[:200], digits.train_labels[:200], digits.test_images[:50],
                         digits.test_labels[:50], tuple(f"_{i}{MARKER}" for i in range(10)))
    net, record = runs.load(trained, digits)
    record = {**record, "recipe": {"name": MARKER}}
    written = anatomy_page.write(tmp_path, net, record, names, repeats=1)
    text = harmless_page(tmp_path / "index.html")
    assert "owned" in text and "units.png" in written and json.loads((tmp_path / "anatomy.json").read_text())


def test_numbers_of_unverified_data_are_marked_by_every_command(trained, tmp_path, said):
    """By compare, and by info for a net that was exported from such a run or comes with the package."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "unverified": True}))
    compared = said("compare", folder, trained, status=0).out
    accuracy = f"{record['epochs'][-1]['test_accuracy']:.2%}"
    assert f"test accuracy {accuracy}†, " in compared and f"test accuracy {accuracy}, " in compared
    assert "† trained and tested on files" in compared
    said("export", folder, "-o", tmp_path / "a.mmk", status=0)
    said("export", trained, "-o", tmp_path / "b.mmk", status=0)
    assert f"{accuracy}† of the images" in (shown := said("info", tmp_path / "a.mmk", status=0).out)
    assert "† trained and tested on files" in shown and "†" not in said("info", tmp_path / "b.mmk", status=0).out
    for name in ("conv2-published-config-seed0", "conv2-published-config"):
        zoo = said("info", name, status=0).out
    assert zoo.partition("\n")[0].count("†") == 1 and "† trained and tested on files" in zoo
    assert "†" not in said("info", "fcn", status=0).out


def test_accuracy_on_a_validation_set_is_held_out_accuracy_for_train_and_compare(tmp_path, said):
    recipe = replace(DIGITS, dataset="digits-validation")
    (tmp_path / "a.toml").write_text(recipe.toml())
    trained = said("train", tmp_path / "a.toml", "--quiet", "--out", tmp_path / "a", status=0).out
    assert "held-out accuracy " in trained and "test accuracy" not in trained
    compared = said("compare", tmp_path / "a", tmp_path / "a", status=0).out
    assert "held-out accuracy " in compared and "test accuracy" not in compared
