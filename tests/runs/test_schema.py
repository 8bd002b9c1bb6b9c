"""record.json, sweep.json and recipes that are not what they should be: one sentence each, from every command, at once."""

import copy
import json
import os
import random
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from recorded import put, record

from minimask import MinimaskError, UsageError, data, fields, recipes, runs
from minimask.__main__ import main
from minimask.runs import records, schema, sweep

DIGITS = replace(recipes.find("digits"), name="mine", epochs=2)
FCN = replace(recipes.find("fcn"), epochs=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    runs.run(DIGITS, data.digits(), 0, folder)
    return folder


@pytest.fixture(scope="module")
def whole(trained):
    return json.loads((trained / "record.json").read_text())


# ---- a run on a data set of one's own ----------------------------------------------------------------------------------


def test_a_run_on_a_data_set_of_ones_own_is_reported_beside_the_others(tmp_path, rng, capsys):
    """Such a run took the whole report down: its images' shape is not in any table."""
    images, labels = rng.integers(0, 256, (40, 5, 7, 2)).astype(np.uint8), rng.integers(0, 3, 40)
    mine = data.Dataset("my birds", images, labels, images[:9], labels[:9], ("a", "b", "c"))
    runs.run(replace(DIGITS, dataset="my birds"), mine, 0, tmp_path / "runs/a")
    runs.run(DIGITS, mine, 1, tmp_path / "runs/b")  # the recipe says another data set
    put(tmp_path / "records", record(FCN, 0))
    assert main(["report", str(tmp_path / "runs"), str(tmp_path / "records"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "| `mine` |" in said.out and "| `fcn` |" in said.out and "from Python: own data" in said.out
    assert "b/record.json disagrees with its recipe: trained on 'my birds', but the recipe says 'digits'" in said.err
    net, _ = runs.load(tmp_path / "runs/a", mine)
    assert net.input_shape == (5, 7, 2)
    with pytest.raises(MinimaskError, match="holds a run on my birds, but the data set given is digits"):
        runs.load(tmp_path / "runs/a", data.digits())


# ---- bounds ------------------------------------------------------------------------------------------------------------


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


#: What is changed in a record, by path, and what is said of it.
FAULTS = [
    ("seed", -1, "its seed is -1"), ("seed", 10**200, "its seed holds 1000"), ("dataset", "x" * 300, "its dataset is 'xxx"),
    ("dataset", "", "its dataset is ''"), ("environment.processor", {"a": 1}, "its environment says that processor is"),
    ("environment.cores", "2", "its environment says that cores is '2'"),
    ("environment.tf32", 1, "its environment says that tf32 is 1"),
    ("environment.continued", {}, "its environment says that continued is"),
    ("environment.source_digest", 5, "its environment says that source_digest is 5"),
    ("environment.other", deep(12), "its environment is nested too deeply"), ("other", deep(20), "its other is nested"),
    ("environment.other", "x" * 20_000, "holds a text of 20,000 characters"), ("unverified", "yes", "its unverified is 'yes'"),
    ("metric", ["a"], "its metric is ['a']"), ("metric", "a\nb", "its metric is 'a"), ("metric", "x" * 300, "its metric is 'xxx"),
    ("epochs.1.test_loss", 0.5, "epoch 2 tells other numbers than epoch 1"),
    ("epochs.1.test_metric", "high", "epoch 2 has test_metric 'high'"), ("epochs.1.test_loss", -1, "epoch 2 has test_loss -1"),
    ("environment.other", [0] * 200_000, "has more than 100,000 values"),
    ("epochs.1.test_accuracy", 10**30, "epoch 2 has test_accuracy 1000"),
    ("epochs.1.train_loss", 10**400, "epoch 2 has train_loss 1000"), ("epochs.1.seconds", 1e300, "epoch 2 has seconds 1e"),
    ("epochs.0.step", 2**60, "epoch 1 has step 1152921504606846976"), ("epochs.1.other", deep(30), "epoch 2 is damaged"),
    ("epochs.1.layers.0.name", "x" * 500, "epoch 2 has a layer without a name of up to 200 characters"),
    ("epochs.1.layers.0.name", ["a"], "epoch 2 has a layer without a name"),
    ("epochs.1.layers.0.weights", 10**400, "epoch 2 has a layer whose kept, hidden and inverted weights do not add up"),
    ("epochs.1.layers.0", [], "epoch 2 has no layers"), ("epochs.1.layers", [{}] * 20_000, "epoch 2 has 20,000 layers"),
    ("epochs.1", None, "epoch 2 is None, not an entry"), ("recipe.name", "x" * 150, "name has 150 characters"),
    ("recipe.model_settings", {"width": 10**9}, "unknown key 'width'"), ("recipe.epochs", 10**30, "epochs is 1000"),
    ("recipe.about", "x" * 20_000, "holds a text of 20,000 characters"), ("recipe.model", "conv8", "disagrees with its recipe"),
    ("recipe.batch", 0.5, "batch is 0.5, but must be a whole number"), ("recipe.lr", deep(5), "lr is "),
]


def faulty(whole, path, value):
    changed = copy.deepcopy(whole)
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = changed
    for part in parts:
        inner = inner[part]
    inner[last] = value
    return changed


@pytest.mark.parametrize(("path", "value", "sentence"), FAULTS, ids=[f"{path}-{i}" for i, (path, *_) in enumerate(FAULTS)])
def test_a_fault_is_said_by_every_command_that_reads_a_record(trained, whole, tmp_path, capsys, path, value, sentence):
    folder, text = tmp_path / "run", json.dumps(faulty(whole, path, value))
    shutil.copytree(trained, folder)
    (folder / "record.json").write_text(text)
    for words in (["compare", folder, trained], ["export", folder, "-o", tmp_path / "a.mmk"], ["inspect", folder]):
        assert main([str(word) for word in words]) in (1, 2)
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1 and "bug in minimask" not in said and len(said) < 1000
    reading = records.read([folder, trained])
    ((_, reason),) = reading.refused
    assert sentence in reason and [run.path for run in reading.runs] == [trained / "record.json"]


def test_wide_nets_are_counted_and_refused_before_a_weight_is_drawn(whole, monkeypatch):
    wide = replace(recipes.find("resnet20"), name="wide", model_settings={"width": 64, "norm": "stem"})
    monkeypatch.setattr("minimask.init.draw", lambda *_, **__: pytest.fail("a weight was drawn"))
    assert wide.size() > schema.MOST_WEIGHTS
    changed = {**whole, "recipe": wide.as_dict(), "dataset": "cifar10"}
    with pytest.raises(ValueError, match="asks for a net of 1,0.*weights, but 100,000,000 are the most"):
        schema.agree(changed, schema.recipe_of(changed))
    with pytest.raises(UsageError, match="width is 1000000000; the nearest that it may be is 64"):
        replace(wide, model_settings={"width": 10**9})
    small = replace(recipes.find("conv8"), name="small", dataset="digits")  # four pools of 8 x 8 pixels leave nothing
    changed = {**whole, "recipe": small.as_dict()}
    with pytest.raises(ValueError, match="disagrees with its recipe"):
        schema.agree(changed, schema.recipe_of(changed))


def test_what_is_no_file_or_too_large_a_one_is_not_read(trained, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "record.json").unlink()
    os.mkfifo(folder / "record.json")  # nobody writes to it: to wait would be for ever
    with pytest.raises(MinimaskError, match=r"record\.json is no file"):
        runs.read_record(folder)
    (folder / "record.json").unlink()
    (folder / "record.json").mkdir()
    with pytest.raises(MinimaskError, match=r"record\.json cannot be read \(Is a directory\)|is no file"):
        runs.read_record(folder)
    monkeypatch.setattr(fields.read, "__defaults__", (1000,))
    with pytest.raises(MinimaskError, match=r"record\.json has [\d,]+ bytes, but may have 1,000"):
        runs.read_record(trained)
    reading = records.read([folder, trained])
    assert len(reading.refused) == 2 and not reading.runs


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_named(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "a")
    (tmp_path / "b").mkdir(mode=0)
    reading = records.read([tmp_path])
    (tmp_path / "b").chmod(0o700)
    assert len(reading.runs) == 1 and [path.name for path, _ in reading.refused] == ["b"]


# ---- sweeps and recipes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "{", "[]", "NaN", '{"format": 1}', '{"format": true, "recipes": {}, "runs": []}', '{"format": 1, "recipes": [], "runs": []}',
    '{"format": 1, "recipes": {"a": 3}, "runs": []}', '{"format": 1, "recipes": {}, "runs": {}}',
    '{"format": 1, "recipes": {}, "runs": [3]}', json.dumps({"format": 1, "recipes": {}, "runs": ["x" * 300]}),
    json.dumps({"format": 1, "recipes": {"a": {"b": deep(20)}}, "runs": []}), "[" * 100_000, '{"format": 1e999}'])
def test_a_sweeps_index_that_is_none(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(MinimaskError, match=r"holds no sweep: .*sweep\.json") as caught:
        sweep.read_index(tmp_path)
    assert len(str(caught.value)) < 600


TOML = DIGITS.toml()


@pytest.mark.parametrize(("text", "sentence"), [
    (TOML.replace("epochs = 2", f"epochs = 0x{'f' * 6000}"), "epochs is a number of thousands of digits"),
    (TOML.replace("epochs = 2", f"epochs = {'9' * 6000}"), "is no TOML: "),
    (TOML.replace("lr = 0.05", f"lr = {'[' * 3000}{']' * 3000}"), "is no TOML|lr is "),
    (TOML.replace('about = "', 'about = "' + "x" * 11_000), "about has 11,0.. characters; it may have 10,000"),
    (f'{"k" * 20_000} = 1\n{TOML}', "unknown key 'kkk"), ("#" * 100_000, r"has 100,000 bytes, but may have 64,000"),
    (TOML.replace("lr = 0.05", "lr = 2020-01-01"), "lr is datetime.date"),
    (TOML.replace('dataset = "digits"', f'dataset = "{"d" * 120}"'), "dataset has 120 characters; it may have 1 to 100"),
    (TOML.replace("momentum = 0.9", "momentum = inf"), "momentum is inf, but must be finite")])
def test_a_recipe_within_bounds(tmp_path, text, sentence):
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence) as caught:
        recipes.read(path)
    assert len(str(caught.value)) < 700


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="Python 3.15 reads TOML 1.1")
@pytest.mark.parametrize("new", ['about = "\\e[0m"', 'about = "\\x41"', "source_settings = {\n  tau = 0.001,\n}",
                                 "source_settings = {tau = 0.001,}"])
def test_toml_of_the_next_version_is_told(tmp_path, new):
    path = tmp_path / "my.toml"
    kept = [line for line in TOML.split("[source_settings]")[0].splitlines() if not line.startswith("about")]
    path.write_text("\n".join([*kept, *(['about = ""'] if "about" not in new else []), new]))
    with pytest.raises(UsageError, match=rf"is no TOML: .*; Python 3\.{sys.version_info[1]} reads TOML 1\.0, and what 1\.1 "
                                         r"added .* needs Python 3\.15"):
        recipes.read(path)
    path.write_text(TOML.replace("lr =", "lr"))
    with pytest.raises(UsageError, match="is no TOML") as caught:
        recipes.read(path)
    assert "1.1" not in str(caught.value)


# ---- by chance ---------------------------------------------------------------------------------------------------------

VALUES = [None, True, 0, -1, 1e308, 10**25, 2**70, "", "x", "\x1b", [], {}, [[]], {"a": None}, "x" * 300, deep(30), 0.5]


def mutated(whole, chance):
    """A record with one to three places changed, taken away or put in; or its text with some characters changed."""
    if chance.random() < 0.3:
        text = list(json.dumps(whole))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text))
            text[place:place + chance.randint(0, 3)] = chance.choices('0123456789eE+-.,:{}[]" truefalsnN\\\x00', k=chance.randint(0, 3))
        return "".join(text)
    changed = copy.deepcopy(whole)
    for _ in range(chance.randint(1, 3)):
        inner = changed
        while isinstance(inner, (dict, list)) and inner:
            key = chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            if chance.random() < 0.3 or not isinstance(inner[key], (dict, list)) or not inner[key]:
                if chance.random() < 0.2:
                    del inner[key]
                elif isinstance(inner, dict) and chance.random() < 0.1:
                    inner["other"] = copy.deepcopy(chance.choice(VALUES))
                else:
                    inner[key] = copy.deepcopy(chance.choice(VALUES))
                break
            inner = inner[key]
    return json.dumps(changed)


def try_mutated(trained, whole, tmp_path, count, seed=0):
    """Each is a record or refused by name; what is taken for one is reported, and loaded or refused as a run."""
    chance = random.Random(seed)
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    refused = 0
    for number in range(count):
        (folder / "record.json").write_text(mutated(whole, chance), encoding="utf-8", errors="surrogatepass")
        try:
            reading = records.read([folder])
            refused += len(reading.refused)
            from minimask.runs import paper, report

            groups = records.groups(reading.runs)
            if groups:
                report.results_table(reading.runs), report.making(groups), report.charts(groups), paper.as_latex(groups)
        except Exception as error:
            pytest.fail(f"record {number} of seed {seed}: {type(error).__name__}: {error}")
        try:
            runs.load(folder)
        except MinimaskError as error:
            assert len(str(error)) < 1500
        except Exception as error:
            pytest.fail(f"load, record {number} of seed {seed}: {type(error).__name__}: {error}")
    return refused


def test_mutated_records_are_records_or_refused(trained, whole, tmp_path):
    assert 100 < try_mutated(trained, whole, tmp_path, 150) <= 150


@pytest.mark.slow
def test_many_mutated_records_are_records_or_refused(trained, whole, tmp_path):
    assert try_mutated(trained, whole, tmp_path, 6_000, seed=1) > 4_000
