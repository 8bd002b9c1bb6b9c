"""`minimask step`: which steps it records, of a recipe and of a run, and what it refuses."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from minimask import data, recipes
from minimask.__main__ import main
from minimask.cli import step
from minimask.loop import Training


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    return tmp_path


def short(folder, **changes):
    """A recipe of 2 epochs, 24 steps, as a file."""
    recipe = replace(recipes.find("digits"), name="short", epochs=2, **changes)
    (folder / "short.toml").write_text(recipe.toml())
    return recipe


def written(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def numbers(path):
    return [(moment["when"], moment["number"]) for moment in written(path)["moments"]]


def training_after(recipe, steps, seed=0):
    digits, rng = data.digits(), np.random.default_rng(seed)
    net = recipe.build(digits, rng)
    training = Training(net, digits, recipe.optimizer_of(net, digits), rng, recipe.batch, {"epochs": []})
    for _ in range(steps):
        training.train_step()
        if training.step == training.steps:
            training.end_epoch()
    return training


@pytest.mark.once
def test_without_a_word_it_is_the_demos_first_middle_and_last_step(folder, capsys):
    assert main(["step", "--quiet"]) == 0
    path = folder / "step.html"
    assert numbers(path) == [("before training", 1), ("in the middle", 900), ("at the end", 1800)]
    assert path.stat().st_size < 1_500_000
    out, err = capsys.readouterr()
    assert out == f"step.html: step 1, 900, 1,800 of digits, {path.stat().st_size:,} bytes; open it in a browser\n" and not err
    end = written(path)["moments"][2]
    hidden = sum(row[1] for row in end["chains"][0]["moves"])
    assert hidden > 0.9 * 64 * 300 and end["loss"] < 0.2


def test_a_recipe_is_trained_up_to_the_step_and_the_step_is_what_training_would_do(folder, capsys):
    recipe = short(folder)
    assert main(["step", "short.toml", "--at", "14", "--at", "start", "--at", "middle", "--at", "end", "--seed", "3", "--out", "a.html"]) == 0
    assert numbers(folder / "a.html") == [("before training", 1), ("in the middle", 12), ("training", 14), ("at the end", 24)]
    assert written(folder / "a.html")["total"] == 24
    for after in (11, 12, 13):  # the last of an epoch, the first, and one in the middle
        training = training_after(recipe, after, 3)
        before, bits = training.net.arrays(), training.rng.bit_generator.state
        seen = step._recorded(training, 5)
        assert training.rng.bit_generator.state == bits and seen.number == after + 1
        assert all(np.array_equal(a, before[name]) for name, a in training.net.arrays().items())
        loss = training.train_step()
        assert seen.loss == pytest.approx(loss, rel=1e-5)
        for update, p in zip(seen.updates, training.optimizer.parameters):
            np.testing.assert_allclose(update.after.values, p.data, rtol=1e-3, atol=1e-6)  # twins round otherwise


def test_a_recipe_alone_is_its_first_step(folder):
    short(folder)
    assert main(["step", "short.toml", "--image", "7", "--quiet"]) == 0
    assert numbers(folder / "step.html") == [("before training", 1)]
    assert written(folder / "step.html")["moments"][0]["image"] == 7


@pytest.mark.parametrize("words", [["--no-shrink"], []])
def test_of_a_run_it_is_the_step_after_its_last_with_its_velocity(folder, words):
    recipe = short(folder)
    assert main(["train", "short.toml", "--out", "run", "--quiet", "--seed", "2", *words]) == 0
    assert main(["step", "run", "--out", "a.html", "--quiet"]) == 0
    assert numbers(folder / "a.html") == [("the step after its last", 25)]
    kept = np.load(folder / "run/checkpoint.npz", allow_pickle=False)
    training = training_after(recipe, 24, 2)
    seen = step._recorded(training, 0)
    assert written(folder / "a.html")["moments"][0]["loss"] == pytest.approx(seen.loss, rel=1e-4)
    assert any(name.startswith("optimizer.velocity") for name in kept.files)
    assert main(["step", "run", "--at", "24", "--out", "b.html", "--quiet"]) == 0
    assert numbers(folder / "b.html") == [("training", 24)]


def test_augmented_images_are_drawn_from_the_runs_own_generator():
    recipe = replace(recipes.find("digits"), augment=True)
    training = training_after(recipe, 0)
    training.augment = True
    bits = training.rng.bit_generator.state
    seen = step._recorded(training, 0)
    assert training.rng.bit_generator.state == bits
    assert training.train_step() == pytest.approx(seen.loss, rel=1e-5)


@pytest.mark.parametrize("words, sentence", [
    (["--at", "0"], "'0' is no step: give a number from 1 up, or start, middle, end"),
    (["--at", "soon"], "'soon' is no step"),
    (["digits", "--at", "1801"], "--at 1801: digits has 1,800 steps, 150 epochs of 12; give one of them"),
    (["--at", "1", "--image", "128"], "image 128: the batch has images 0 to 127"),
    (["--out", "nowhere/step.html"], "there is no folder nowhere"),
    (["--out", "."], "is there already, and is no page of `minimask step`"),
    (["digit"], "did you mean 'digits'"),
    (["empty"], "holds no record.json")])
def test_what_it_refuses_in_one_sentence(folder, capsys, words, sentence):
    (folder / "empty").mkdir()
    assert main(["step", *words, "--quiet"]) == 2
    err = capsys.readouterr().err
    assert sentence in err and len(err.splitlines()) == 1
    assert {path.name for path in folder.iterdir()} == {"empty"}


def test_it_writes_over_its_own_page_and_over_no_other_file(folder, capsys):
    short(folder)
    assert main(["step", "short.toml", "--quiet"]) == main(["step", "short.toml", "--quiet"]) == 0
    (folder / "mine.html").write_text("<p>mine</p>")
    assert main(["step", "short.toml", "--out", "mine.html", "--quiet"]) == 2
    assert (folder / "mine.html").read_text() == "<p>mine</p>"
    assert "mine.html is there already" in capsys.readouterr().err


def test_a_run_that_its_schedule_ends_before_says_where(folder, capsys):
    recipe = replace(recipes.find("digits"), name="short", epochs=9, schedule="plateau",
                     schedule_settings={"max_cuts": 1, "patience": 1, "min_delta": 100.0})
    (folder / "short.toml").write_text(recipe.toml())
    assert main(["step", "short.toml", "--at", "end", "--quiet"]) == 2
    assert re.search(r"--at 108: the run ends at step \d+; give one before", capsys.readouterr().err)
