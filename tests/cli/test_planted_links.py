"""Links planted in the folders that commands open: nothing outside of them changes, whatever a link leads to.

Each command runs once in peace, and what it opens to write, renames and makes is noted. Then links are planted under all
these names, and it runs again: symbolic links to a file, to nothing yet and to a folder, and files that have another
name outside. It may do its work or refuse in a sentence.
"""

import concurrent.futures
import importlib.util
import itertools
import json
import os
import re
import shutil
import sys
from dataclasses import replace

import hostile
import numpy as np
import pytest

from minimask import data, files, recipes, runs
from minimask.__main__ import main
from minimask.anatomy import page as anatomy_page
from minimask.data import fetch
from minimask.data import files as datafiles
from minimask.runs import workers
from minimask.testing import course

pytestmark = pytest.mark.once
KINDS = ("to a file", "to nothing yet", "another name", "to a folder")
RANDOM = re.compile(r"\.[0-9a-f]{16}(?=\.new$)")
LOCKS = (files.LOCK, ".fetching", ".stop")
#: Commands that refuse whatever is planted: two want an empty folder, one a part that is a file.
REFUSING = ("sweep", "course", "data fetch")
#: A data set's folder may be a link: copies are large, and shared. What is put there are files of known content.
TRUSTED = ("data/cifar-10-batches-bin",)
WATCHED = None  # what the hook has seen, while it looks


def hook(event, arguments):
    """An audit hook stays for good, so it looks only when it is told to."""
    if WATCHED is None:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        WATCHED.add(arguments[0])
    elif event in ("os.rename", "os.mkdir"):
        WATCHED.add(arguments[event == "os.rename"])


sys.addaudithook(hook)


#: A command's name -> its words; {} is the folder that it is given.
COMMANDS = {
    "demo": ["--out", "{}/new"],
    "train": ["train", "{}/my.toml", "--out", "{}/new", "--quiet"],
    "train --overwrite": ["train", "{}/my.toml", "--out", "{}/run", "--overwrite", "--quiet"],
    "train --resume": ["train", "{}/my.toml", "--out", "{}/run", "--resume", "--epochs", "2", "--quiet"],
    "train --every-step": ["train", "{}/my.toml", "--out", "{}/new", "--every-step", "--epoch-0", "--quiet"],
    "train --log again": ["train", "--resume", "{}/run", "--epochs", "2", "--log", "--quiet"],
    "evaluate": ["evaluate", "{}/run"],
    "evaluate a file": ["evaluate", "{}/a.mmk", "--dataset", "digits", "--out", "{}/there"],
    "sweep": ["sweep", "{}/my.toml", "--out", "{}/sweep", "--jobs", "1", "--quiet"],
    "sweep again": ["sweep", "{}/my.toml", "--out", "{}/swept", "--epochs", "1", "--seeds", "2", "--jobs", "1", "--quiet"],
    "report": ["report", "{}/run", "{}/swept", "--out", "{}/report"],
    "inspect": ["inspect", "{}/run", "--repeats", "1"],
    "export": ["export", "{}/run", "-o", "{}/b.mmk"],
    "export --overwrite": ["export", "{}/run", "-o", "{}/a.safetensors", "--overwrite"],
    "compare": ["compare", "{}/run", "{}/run"],
    "info": ["info", "{}/a.mmk"],
    "predict": ["predict", "{}/a.mmk", "{}/one.npy"],
    "recipes": ["recipes", "{}/my.toml"],
    "data check": ["data", "check", "--data", "{}/data"],
    "data fetch": ["data", "fetch", "cifar10", "--data", "{}/data", "--quiet"],
    "course": ["course", "{}/course"],
    "course --update": ["course", "{}/taught", "--update"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with all that the commands read."""
    folder = tmp_path_factory.mktemp("made")
    recipe = replace(recipes.find("digits"), name="my", epochs=1)
    for out in ("run", "swept/my-seed0"):
        runs.run(recipe, data.digits(), 0, folder / out)
    (folder / "swept/sweep.json").write_text('{"format": 1, "recipes": {}, "runs": []}')
    (folder / "my.toml").write_text(recipe.toml())
    np.save(folder / "one.npy", data.digits().test_images[0])
    assert main(["export", str(folder / "run"), "-o", str(folder / "a.mmk")]) == 0
    (folder / "a.safetensors").write_bytes(b"old")
    (folder / "data").mkdir()
    if importlib.util.find_spec("jupytext"):
        course.write(folder / "taught", ["01"])
        manifest = folder / "taught" / course.MANIFEST
        known = json.loads(manifest.read_text())
        del known["files"]["exercises/lesson01.py"]  # as from a version without it: it is added
        manifest.write_text(json.dumps(known))
        (folder / "taught/exercises/lesson01.py").unlink()
    return folder


@pytest.fixture
def light(monkeypatch):
    """Two figures of seven, a demo of one epoch, sweeps in a thread, and a small archive in the place of CIFAR-10's."""
    small, published, _, packed = hostile.small_cifar()
    parts = anatomy_page.parts
    monkeypatch.setitem(datafiles.SETS, "cifar10", small)
    monkeypatch.setitem(fetch.PUBLISHED, "cifar10", published)
    monkeypatch.setattr(anatomy_page, "parts", lambda *given: itertools.islice(parts(*given), 2))
    monkeypatch.setattr(runs, "write_pictures", lambda folder, *_: files.write(folder / "masks.png", b"a picture") or ["masks.png"])
    monkeypatch.setattr(workers, "Processes", lambda jobs: concurrent.futures.ThreadPoolExecutor(1))
    real = recipes.find
    monkeypatch.setattr(recipes, "find", lambda name, *leave: replace(real(name, *leave), epochs=1))
    return published[0].name, packed


def snapshot(folder):
    """Everything below a folder: kinds, contents, modes and times of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mode, None if path.is_dir() else (status.st_mtime_ns, path.read_bytes()))
    return found


def prepared(made, light, folder):
    shutil.copytree(made, folder)
    (folder / "data" / light[0]).write_bytes(light[1])  # put there by hand, so that no server is asked
    (folder.parent / "outside").mkdir(exist_ok=True)
    return folder


def plant(folder, outside, names, kind):
    """Puts links of this kind under the names; what has one of them goes outside and is linked to."""
    for number, name in enumerate(names):
        path, victim = folder / name, outside / f"{number}"
        if os.path.lexists(path):
            shutil.move(path, victim)
        elif kind == "to a folder":
            victim.mkdir()
        elif kind != "to nothing yet":
            victim.write_text("somebody's")
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "another name" and victim.is_file():
            os.link(victim, path)
        else:
            path.symlink_to(victim, target_is_directory=victim.is_dir())


def names_of(words, folder):
    """What a command opens to write, renames or makes in the folder, from a run in peace: (locks, folders, files)."""
    global WATCHED
    WATCHED = set()
    try:
        status = main([word.format(folder) for word in words])
        seen = {os.path.relpath(path, folder) for path in WATCHED if isinstance(path, str)}
    finally:
        WATCHED = None
    assert status == 0
    seen = {RANDOM.sub("", name) for name in seen if not name.startswith("..")}
    given = {word.format(folder) for word in words}  # a folder that the user names may be a link, which is theirs
    folders = {name for name in seen if (folder / name).is_dir()}
    inside = {os.path.dirname(name) for name in seen}
    locks = {os.path.join(each, lock) for each in inside for lock in LOCKS}
    return (sorted(locks), sorted(name for name in folders if str(folder / name) not in given | {str(folder)} and name not in TRUSTED),
            sorted(seen - folders - locks))


@pytest.mark.parametrize("command", COMMANDS)
def test_links_planted_in_a_folder_lead_nowhere(command, made, light, tmp_path, monkeypatch, capsys):
    if command.startswith("course"):
        pytest.importorskip("jupytext")
    monkeypatch.chdir(tmp_path)
    words, ended = COMMANDS[command], []
    locks, folders, plain = names_of(words, prepared(made, light, tmp_path / "peace/folder"))
    plants = [(kind, group) for kind in KINDS for group in (locks, plain)] + [("to a folder", folders)]
    for number, (kind, names) in enumerate((kind, names) for kind, names in plants if names):
        here = tmp_path / str(number)
        folder = prepared(made, light, here / "folder")
        plant(folder, here / "outside", names, kind)
        before = snapshot(here / "outside")
        ended.append(main([word.format(folder) for word in words]))
        error = capsys.readouterr().err
        assert snapshot(here / "outside") == before, (kind, names, error)
        assert "a bug in minimask" not in error and "Traceback" not in error, error
        assert ended[-1] == 0 or "\nminimask: " in f"\n{error}", error
    assert not plain or 0 in ended or command in REFUSING, (ended, plain)
