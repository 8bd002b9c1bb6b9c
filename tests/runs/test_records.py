"""Records of many runs: what is found, what is refused and why, what is averaged with what."""

import copy
import json
from dataclasses import replace

import pytest
from recorded import put, record

from minimask import UsageError, recipes
from minimask.runs import records

FCN = replace(recipes.find("fcn"), epochs=4)  # short, so that tests are quick; otherwise the shipped recipe


def labels(reading):
    return {group.label: [run.seed for run in group.runs] for group in records.groups(reading.runs)}


# ---- finding -----------------------------------------------------------------------------------------------------------


def test_run_folders_sweep_folders_and_folders_of_records_in_any_mix(tmp_path):
    put(tmp_path / "bare", record(FCN, 0), record(FCN, 1))
    for seed in (2, 3):
        run = tmp_path / f"sweep/fcn-seed{seed}"
        put(run, record(FCN, seed))
        (run / f"fcn-seed{seed}.json").rename(run / "record.json")
        (run / "network.npz").write_bytes(b"not read")
    (tmp_path / "sweep/sweep.json").write_text('{"what": "a sweep is"}')
    demo = tmp_path / "demo"
    put(demo, record(replace(FCN, name="demo"), 0))
    (demo / "demo-seed0.json").rename(demo / "record.json")
    (demo / "dense.json").write_text(json.dumps(record(replace(recipes.find("fcn-dense"), epochs=2), 0)))
    (tmp_path / "bare/steps.json").write_text('{"steps": []}')
    reading = records.read([tmp_path / "bare", tmp_path / "sweep", demo])
    assert labels(reading) == {"fcn": [0, 1, 2, 3], "demo": [0], "fcn-dense": [0]}
    assert reading.foreign == [tmp_path / "bare/steps.json"] and not reading.refused and not reading.unfinished
    assert labels(records.read([tmp_path])) == labels(reading)  # one level down, the same
    assert labels(records.read([tmp_path / "bare/fcn-seed1.json"])) == {"fcn": [1]}


def test_the_same_folder_twice_counts_once(tmp_path):
    put(tmp_path, record(FCN, 0))
    reading = records.read([tmp_path, tmp_path])
    assert labels(reading) == {"fcn": [0]} and not reading.refused


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"there is no .*nowhere; give folders of runs"):
        records.read([tmp_path / "nowhere"])


# ---- grouping ----------------------------------------------------------------------------------------------------------


def test_only_runs_of_one_recipe_are_together(tmp_path):
    """The line about it may differ; epochs, data, threshold, learning rate and unverified files may not."""
    mine = replace(FCN, name="mine")
    put(tmp_path / "a", record(mine, 0), record(replace(mine, about="other words"), 1))
    put(tmp_path / "b", record(replace(mine, epochs=3), 0))
    put(tmp_path / "c", record(replace(mine, lr=0.1), 0))
    put(tmp_path / "d", record(replace(mine, source_settings={"tau": 0.02}), 0))
    put(tmp_path / "e", record(replace(mine, dataset="fashion-mnist"), 0))
    put(tmp_path / "f", record(mine, 2, unverified=True))
    reading = records.read([tmp_path])
    groups = records.groups(reading.runs)
    assert not reading.refused and sorted(len(group.runs) for group in groups) == [1, 1, 1, 1, 1, 2]
    assert sum(group.unverified for group in groups) == 1
    names = {group.label for group in groups}
    assert "mine (epochs 3, lr 0.05, dataset mnist, source settings tau 0.01)" in names
    assert all(name.startswith("mine (") for name in names)


def shrunk(recipe, seed, dead=3, **more):
    """A record of a run that counted dead units in its first layer; with None it may leave out none of any."""
    whole = record(recipe, seed, **more) | {"shrink": True}
    for entry in whole["epochs"] if dead is not None else ():
        entry["layers"][0] |= {"units": 300, "dead": dead}
    return whole


def test_shrunk_and_whole_runs_of_one_recipe_are_kept_apart(tmp_path):
    """Seed 0 is in both, and one is not taken for the other; a seed of which no unit has died is with its like."""
    put(tmp_path / "shrunk", shrunk(FCN, 0, seconds=10.0), shrunk(FCN, 1, dead=0))
    put(tmp_path / "whole", record(FCN, 0), record(FCN, 2))
    reading = records.read([tmp_path])
    assert not reading.refused and labels(reading) == {"fcn (whole)": [0, 2], "fcn (shrunk)": [0, 1]}
    groups = records.groups(reading.runs)
    assert records.kept_apart(groups) == ("Runs of one recipe that were made with all units or without those that are dead "
                                          "for ever are kept apart, never averaged.")
    assert records.recipes_of(groups) == 1
    alone = records.read([tmp_path / "shrunk"])
    assert labels(alone) == {"fcn": [0, 1]} and not records.kept_apart(records.groups(alone.runs))


def test_where_no_unit_may_be_left_out_shrunk_and_whole_are_one_series(tmp_path):
    """No layer counts dead units, so the runs are the same to the bit: the flag alone parts nothing."""
    put(tmp_path, shrunk(POPUP, 0, dead=None), record(POPUP, 1))
    assert labels(records.read([tmp_path])) == {"fcn-edge-popup": [0, 1]}


def test_shipped_recipes_come_in_their_order_and_own_ones_after_them(tmp_path):
    put(tmp_path, record(replace(FCN, name="a-recipe")), record(replace(recipes.find("fcn-dense"), epochs=2)), record(FCN))
    assert list(labels(records.read([tmp_path]))) == ["fcn", "fcn-dense", "a-recipe"]


def test_a_seed_counts_once(tmp_path):
    put(tmp_path / "a", record(FCN, 0, accuracy=0.9), record(FCN, 1))
    put(tmp_path / "b", record(FCN, 0, accuracy=0.8))
    put(tmp_path / "c", record(FCN, 0, accuracy=0.9, seconds=7))
    reading = records.read([tmp_path])
    (group,) = records.groups(reading.runs)
    assert group.ends("test_accuracy") == [0.9, 0.97]
    (b, why_b), (c, why_c) = reading.refused
    assert b == tmp_path / "b/fcn-seed0.json" and c == tmp_path / "c/fcn-seed0.json"
    first = tmp_path / "a/fcn-seed0.json"
    assert why_b == f"seed 0 of fcn again: {first} counts, this one does not (and their numbers differ)"
    assert why_c == f"seed 0 of fcn again: {first} counts, this one does not (their numbers agree)"


def test_unfinished_runs_are_apart(tmp_path):
    put(tmp_path, record(FCN, 0), record(FCN, 1) | {"epochs": record(FCN, 1)["epochs"][:3]}, record(FCN, 2, epochs=0))
    reading = records.read([tmp_path])
    assert labels(reading) == {"fcn": [0]} and not reading.refused
    assert [(run.seed, len(run.epochs)) for run in reading.unfinished] == [(1, 3), (2, 0)]


def test_a_run_that_its_plateau_ended_is_finished(tmp_path):
    recipe = replace(FCN, name="p", epochs=50, schedule="plateau",
                     schedule_settings={"factor": 0.5, "patience": 2, "cooldown": 0, "max_cuts": 2})
    flat = record(recipe, 0)
    for entry in flat["epochs"]:
        entry["train_loss"] = 1.0
    cuts = 5  # lower in epoch 1, then two epochs of waiting for each of the two cuts
    put(tmp_path, flat | {"epochs": flat["epochs"][:cuts]}, flat | {"seed": 1, "epochs": flat["epochs"][:cuts - 1]})
    reading = records.read([tmp_path])
    assert labels(reading) == {"p": [0]} and [run.seed for run in reading.unfinished] == [1]


# ---- refusing ----------------------------------------------------------------------------------------------------------


def changed(path, value, at=FCN, **options):
    """A record with one thing changed: path is 'epochs.1.flips'; a value of ... takes it away."""
    whole = record(at, **options)
    *parts, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = whole
    for part in parts:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(whole)


def relabelled(**changes):
    """A record of other settings under a shipped recipe's name."""
    return json.dumps(record(replace(FCN, **changes)))


LAYERS = record(FCN)["epochs"][1]["layers"]
BINARY, POPUP = (replace(recipes.find(name), epochs=4) for name in ("fcn-binary", "fcn-edge-popup"))


def moved(recipe, number):
    """A record in which `number` weights of the last layer are moved from hidden to inverted or from kept to hidden."""
    whole = record(recipe)
    for entry in whole["epochs"]:
        layer = entry["layers"][-1]
        part, other = ("kept", "inverted") if recipe.source == "binary" else ("kept", "hidden")
        layer[part] -= number
        layer[other] += number
        hidden, weights = (sum(each[name] for each in entry["layers"]) for name in ("hidden", "weights"))
        entry["weights_left"] = (weights - hidden) / weights
    return json.dumps(whole)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "is damaged: no JSON"),
    (json.dumps(record(FCN))[:2000], "is damaged: no JSON"),
    ("\x00\xff", "is damaged: no JSON"),
    ("[" * 100_000, "is nested too deep|is damaged: no JSON"),
    ("[]", "is damaged: a JSON list"),
    (json.dumps(record(FCN)).replace("0.97", "NaN"), "holds NaN, which is no number"),
    (json.dumps(record(FCN)).replace("0.97", "Infinity"), "holds Infinity, which is no number"),
    (changed("format", 2), "has format 2, but this version of minimask reads format 1"),
    (changed("format", ...), "has format None"),
    (changed("recipe", ...), "is damaged or of another kind: its recipe is None"),
    (changed("recipe", {}), "names no recipe"),
    (changed("recipe.epochs", ...), "holds a recipe that this version of minimask does not know: recipe lacks epochs"),
    (changed("recipe.lr", "fast"), "lr is 'fast', but must be a number"),
    (changed("recipe.speed", 1), "unknown key 'speed'"),
    (changed("seed", None), "its seed is None"),
    (changed("seed", True), "its seed is True"),
    (changed("environment", ...), "its environment is None"),
    (changed("epochs", {}), "its epochs is {}"),
    (changed("epochs.1", 3), "epoch 2 is 3, not an entry"),
    (changed("epochs.1", ...), "epoch 2 calls itself epoch 3, step 1407: epochs are missing, or there twice"),
    (changed("epochs.1.step", 939), "epoch 2 calls itself epoch 2, step 939"),
    (changed("epochs.1.test_accuracy", ...), "epoch 2 has test_accuracy None; needed is a number from 0 to 1"),
    (changed("epochs.1.test_accuracy", 97.0), "epoch 2 has test_accuracy 97.0"),
    (changed("epochs.1.train_loss", "low"), "epoch 2 has train_loss 'low'"),
    (changed("epochs.1.flips", 0.5), "epoch 2 has flips 0.5; needed is a whole number"),
    (changed("epochs.1.flips", 266_201), "266,201 flips"),
    (changed("epochs.1.seconds", -1), "epoch 2 has seconds -1"),
    (changed("epochs.1.layers", []), "epoch 2 has no layers"),
    (changed("epochs.1.layers.0.kept", LAYERS[0]["kept"] + 1), "hidden and inverted weights do not add up"),
    (changed("epochs.1.layers.0.kept", -1), "hidden and inverted weights do not add up"),
    (changed("epochs.1.layers.0.name", ...), "epoch 2 has a layer without a name"),
    (changed("epochs.1.layers.0.name", "dense7"), "epoch 2 has other layers than epoch 1"),
    (changed("epochs.1.layers", LAYERS[:2]), "epoch 2 has other layers than epoch 1"),
    (changed("epochs.1.weights_left", 0.0403), r"epoch 2 says 4\.0300% of the weights left"),
    (changed("dataset", "digits"), "disagrees with its recipe: trained on 'digits', but the recipe says 'mnist'"),
    (changed("recipe.epochs", 3), "disagrees with its recipe: 4 epochs, but the recipe says 3"),
    (changed("recipe.model", "conv2", at=replace(FCN, name="own")),
     "disagrees with its recipe: 266,200 weights, but its net has"),
    (changed("recipe.source", "trained", at=replace(FCN, name="own", source_settings={})),
     "disagrees with its recipe: layer dense1 has .* which 'trained' cannot give"),
    (moved(BINARY, 5), "layer dense3 has .* 5 inverted, which 'binary' cannot give"),
    (moved(POPUP, 1), "layer dense3 has 99 kept, .* which 'edge-popup' cannot give"),
    (relabelled(lr=0.1), "it calls itself 'fcn', but its lr is 0.1, and 0.05 in the recipe of that name"),
    (relabelled(source_settings={"tau": 0.02}), "its source_settings is {'tau': 0.02}, and {'tau': 0.01}"),
])
def test_records_that_cannot_be_believed_are_refused_by_name(tmp_path, text, reason):
    put(tmp_path, record(FCN, 7))
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="latin-1")
    reading = records.read([tmp_path])
    ((refused, sentence),) = reading.refused
    assert refused == path and labels(reading) == {"fcn": [7]} and not reading.foreign
    import re
    assert re.search(reason, sentence), sentence


def test_the_records_that_those_are_made_of_are_good():
    for recipe in (FCN, BINARY, POPUP, replace(recipes.find("fcn-dense"), epochs=2), replace(FCN, name="own")):
        whole = record(recipe)
        assert records.check(copy.deepcopy(whole)) == recipe
        assert json.loads(json.dumps(whole)) == whole


def test_bytes_that_are_no_text_and_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"format": 1, "\xff\xfe')
    (tmp_path / "b.json").symlink_to(tmp_path / "b.json")
    put(tmp_path, record(FCN, 0))
    reading = records.read([tmp_path, tmp_path / "fcn-seed0.json"])
    assert [path.name for path, _ in reading.refused] == ["a.json"] and labels(reading) == {"fcn": [0]}
    assert "is damaged: it is no text" in reading.refused[0][1]
