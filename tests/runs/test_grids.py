"""Sweeps over values and over seeds: folders, records, resuming, the report's groups; seeds of weights and of order."""

import concurrent.futures
import itertools
import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from recorded import put, record

from minimask import MinimaskError, UsageError, data, files, models, recipes, runs
from minimask.__main__ import main
from minimask.recipes import grid
from minimask.runs import paper, records, report, schema, sweep, workers

pytestmark = pytest.mark.once
TINY = replace(recipes.find("digits"), name="tiny", epochs=1)
GRID = ["--set", "wd=1e-4,3e-4", "--set", "source_settings.tau=0.01,0.02"]
NAMES = [f"tiny-wd_{wd}-source.tau_{tau}" for wd in ("0.0001", "0.0003") for tau in ("0.01", "0.02")]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder with tiny.toml, in which sweeps are worked off by threads of this process."""
    monkeypatch.setattr(workers, "Processes", lambda jobs: concurrent.futures.ThreadPoolExecutor(jobs))
    monkeypatch.setattr(runs, "write_pictures", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY.toml())
    return tmp_path


@pytest.fixture
def planned(monkeypatch):
    """The runs that a sweep would work off; none is."""
    found = []

    def nothing(todo, *_):
        found.extend(todo)
        return {task.name: sweep.Outcome(task.name, "done") for task in todo}

    monkeypatch.setattr(sweep, "sweep", nothing)
    return found


def digest(folder):
    return runs.peek(folder)[1]


def test_a_grid_has_a_folder_for_all_of_its_values_and_goes_on_however_it_is_given(tiny, capsys):
    assert main(["sweep", "tiny.toml", *GRID, "--out", "g", "--quiet"]) == 0
    folders = sorted(path.name for path in (tiny / "g").iterdir() if path.is_dir())
    assert folders == [f"{name}-seed0" for name in NAMES]
    said = runs.read_record(tiny / "g" / folders[1])
    assert said["made"] == {"recipe": "tiny", "values": {"wd": 1e-4, "source_settings.tau": 0.02}}
    assert (said["recipe"]["wd"], said["recipe"]["source_settings"]) == (1e-4, {"tau": 0.02})
    before = {name: (digest(tiny / "g" / name), (tiny / "g" / name / "record.json").stat().st_mtime_ns) for name in folders}
    again = ["--set", "source_settings.tau=0.02,1e-2", "--set", "wd=0.0003,0.0001"]
    capsys.readouterr()
    assert main(["sweep", "tiny.toml", *again, "--out", "g"]) == 0
    assert capsys.readouterr().err.count("it was finished before") == 4
    assert before == {name: (digest(tiny / "g" / name), (tiny / "g" / name / "record.json").stat().st_mtime_ns)
                      for name in folders}
    assert main(["sweep", "tiny.toml", *again, "--epochs", "2", "--out", "g", "--quiet"]) == 0  # and all of them train on
    assert {len(runs.read_record(tiny / "g" / name)["epochs"]) for name in folders} == {2}


def test_train_takes_a_value_for_a_key_and_its_run_is_that_of_the_grid(tiny, capsys):
    words = ["--set", "wd=3e-4", "--set", "source_settings.tau=0.02"]
    assert main(["train", "tiny.toml", *words, "--quiet"]) == 0
    assert main(["sweep", "tiny.toml", *GRID, "--out", "g", "--quiet"]) == 0
    folder = tiny / "runs" / f"{NAMES[3]}-seed0"
    assert digest(folder) == digest(tiny / "g" / f"{NAMES[3]}-seed0")
    assert runs.read_record(folder)["made"]["values"] == {"wd": 3e-4, "source_settings.tau": 0.02}
    for more in (["--resume", str(folder)], ["tiny.toml", *words, "--resume"]):
        assert main(["train", *more, "--epochs", "2", "--quiet"]) == 0
    assert runs.read_record(folder)["made"]["recipe"] == "tiny"
    capsys.readouterr()
    assert main(["train", "tiny.toml", *GRID]) == 2
    assert "--set gives 4 recipes, and train takes one; `minimask sweep` trains all" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "--set", "wd=0.1"]) == 2
    assert "with the recipe that it has: leave out --set wd=0.1" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "names"), [
    (["--seeds", "0,3,7"], ["tiny-seed0", "tiny-seed3", "tiny-seed7"]), (["--seeds", "7,"], None),
    (["--seeds", "2", "--seed", "5"], ["tiny-seed5", "tiny-seed6"]),
    (["--seeds", "1,4", "--init-seed", "9"], ["tiny-seed1-init9", "tiny-seed4-init9"]),
    (["--seeds", "2", "--order-seed", "9"], ["tiny-seed0-order9", "tiny-seed1-order9"]),
    (["--init-seed", "3", "--order-seed", "9"], ["tiny-seed0-init3-order9"])])
def test_seeds_are_counted_or_listed(words, names, tiny, planned, capsys):
    assert main(["sweep", "tiny.toml", *words, "--out", "g"]) == (0 if names else 2)
    assert [task.name for task in planned] == (names or [])
    if names:
        assert sweep.read_index(tiny / "g")["runs"] == names


@pytest.mark.parametrize(("command", "words", "sentence"), [
    ("sweep", ["--seeds", "0,0"], "'0,0' has a seed twice"), ("sweep", ["--seeds", "0,x"], "'x' is no whole number from 0 up"),
    ("sweep", ["--seeds", "0,3", "--seed", "1"], "--seeds 0,3 says all seeds, so --seed 1 does nothing"),
    ("sweep", ["--init-seed", "1", "--order-seed", "1", "--seeds", "2"], "leave nothing for --seed and --seeds to draw"),
    ("train", ["--init-seed", "1", "--order-seed", "1", "--seed", "2"], "leave nothing for --seed to draw"),
    ("train", ["--init-seed", "-1"], "'-1' is no whole number from 0 up"),
    ("sweep", ["--set", "wd=" + ",".join(f"0.{n:03}" for n in range(500)), "--seeds", "201"], "100,500 runs (201 seeds)")])
def test_seeds_that_say_nothing_are_refused(command, words, sentence, tiny, capsys):
    assert main([command, "tiny.toml", *words, "--out", "g"]) == 2
    assert sentence in capsys.readouterr().err and not (tiny / "g").exists()


# ---- seeds of weights and of order -----------------------------------------------------------------------------------


def order(rng):
    return rng.permutation(1000).tolist()


def test_weights_are_those_of_the_one_seed_and_the_order_that_of_the_other():
    digits = data.digits()
    plain = {seed: runs.drawn(TINY, digits, seed) for seed in range(3)}
    orders = {seed: order(rng) for seed, (_, rng) in plain.items()}
    assert len({tuple(each) for each in orders.values()}) == 3
    for seeds, weights, ordered in (((0, 1, None), 1, 0), ((0, None, 2), 0, 2), ((0, 1, 2), 1, 2), ((2, 2, 2), 2, 2)):
        net, rng = runs.drawn(TINY, digits, *seeds)
        for name, array in plain[weights][0].arrays().items():
            assert np.array_equal(net.arrays()[name], array), (seeds, name)
        assert order(rng) == orders[ordered]
    with pytest.raises(UsageError, match="seed -1: give a whole number"):
        runs.drawn(TINY, digits, 0, order_seed=-1)


def test_a_layer_that_draws_while_it_trains_has_the_generator_that_is_in_the_checkpoint(monkeypatch):
    real, given = models.MODELS["fcn"], []
    monkeypatch.setitem(models.MODELS, "fcn", lambda rng, **more: given.append(rng) or real(rng=rng, **more))
    for seeds in ({}, {"init_seed": 1}, {"order_seed": 2}):
        given.clear()
        _, rng = runs.drawn(TINY, data.digits(), 0, **seeds)
        assert given[0] is rng


def test_a_run_goes_on_to_the_bit_with_its_seeds_and_with_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "write_pictures", lambda *_: [])
    digits, two = data.digits(), replace(TINY, epochs=2)
    seeds = {"init_seed": 1, "order_seed": 2}
    runs.run(two, digits, 0, tmp_path / "whole", **seeds)
    runs.run(TINY, digits, 0, tmp_path / "half", **seeds)
    for wrong, sentence in (({}, "its init_seed is 1, but None was asked for"), ({**seeds, "order_seed": 3}, "its order_seed is 2, but 3")):
        with pytest.raises(UsageError) as error:
            runs.run(two, digits, 0, tmp_path / "half", resume=True, **wrong)
        assert sentence in str(error.value)
    runs.run(two, digits, 0, tmp_path / "half", resume=True, **seeds)
    assert digest(tmp_path / "half") == digest(tmp_path / "whole")
    assert main(["train", "--resume", str(tmp_path / "half"), "--epochs", "3", "--quiet"]) == 0  # which knows its seeds
    there = runs.read_record(tmp_path / "half")
    assert (there["init_seed"], there["order_seed"], len(there["epochs"])) == (1, 2, 3)


def test_a_run_without_seeds_of_its_own_has_the_record_that_it_always_had(tmp_path):
    _, plain = runs.run(TINY, data.digits(), 0)
    assert set(plain) == {"format", "recipe", "seed", "dataset", "environment", "epochs", "shrink"}


def test_frozen_weights_of_several_magnitudes_are_exported_with_the_seed_that_drew_them(tmp_path, capsys):
    recipe = replace(TINY, source_settings={"tau": 0.01, "frozen_distribution": "normal"})
    runs.run(recipe, data.digits(), 0, tmp_path / "run", init_seed=5)
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "a.mmk")]) == 0, capsys.readouterr().err
    assert (tmp_path / "a.mmk").stat().st_size < 100_000


def test_what_a_sweep_holds_is_another_run_where_the_seeds_are_others(tmp_path):
    [task] = sweep.tasks([TINY], [0], tmp_path)
    runs.run(TINY, data.digits(), 0, task.folder, init_seed=1)
    with pytest.raises(MinimaskError, match="holds another run: its init_seed is 1, but None was asked for"):
        workers.finished(task)


# ---- reports ---------------------------------------------------------------------------------------------------------


def of_grid(base, words, **more):
    """Records of a grid over a recipe, two seeds each."""
    return [record(cell.recipe, seed, 0.90 + 0.01 * i, made=json.loads(json.dumps(cell.as_dict())), **more)
            for i, cell in enumerate(grid.cells(recipes.find(base), grid.choices(words))) for seed in (0, 1)]


def test_a_report_groups_by_the_values_numbers_by_their_size(tmp_path):
    some = of_grid("fcn", ["batch=64,1000,256", "wd=1e-3,1e-5"])
    reading = records.read([put(tmp_path, *some, record("fcn", 0), record("conv2", 0))])
    groups = records.groups(reading.runs)
    assert [group.label for group in groups][:3] == ["fcn", "fcn-wd_1e-05-batch_64", "fcn-wd_1e-05-batch_256"]
    assert groups[-1].label == "conv2"  # in the order of the recipes that they are made of
    [(base, table)] = report.grids(groups)
    assert base == "fcn" and table.head[:2] == ["wd", "batch"]
    assert [row[:2] for row in table.rows] == [[wd, batch] for wd in ("1e-05", "0.001") for batch in ("64", "256", "1000")]
    accuracy = {tuple(row[:2]): row[2] for row in table.rows}
    assert accuracy["0.001", "64"] == "90.00" and accuracy["1e-05", "256"] == "95.00"
    text = report.write(reading, tmp_path / "report")[0]
    assert "**fcn, by what was set**" in text and text.count("```toml") == 0
    assert "fcn, by what was set" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


def test_a_report_without_a_grid_says_nothing_of_one(tmp_path):
    reading = records.read([put(tmp_path, record("fcn", 0), *of_grid("fcn", ["wd=1e-3"]))])
    assert report.grids(records.groups(reading.runs)) == []  # one value is no grid
    assert "by what was set" not in report.write(reading, tmp_path / "report")[0]


@pytest.mark.parametrize(("words", "more"), [
    (["wd=1e-3", "source_settings.tau=0.02"], {}), (["source=edge-popup", "source_settings.share=0.3"], {}),
    (["epochs=7"], {}), (["dataset=mnist-validation", "wd=0"], {}), (["source_settings.scores=\"elu\""], {"init_seed": 4}),
    (["schedule=plateau", "schedule_settings.max_cuts=3"], {"order_seed": 4})])
def test_the_command_in_a_report_makes_that_recipe(words, more, tmp_path, monkeypatch):
    """As `minimask train` reads it."""
    reading = records.read([put(tmp_path, *of_grid("fcn", words, **more))])
    run = reading.runs[0]
    _, command, *rest = shlex.split(report.command_line(run))
    asked = []
    monkeypatch.setattr("minimask.cli.train.run", lambda recipe, *_, **how: asked.append((recipe, how)) or 1 / 0)
    monkeypatch.setattr("minimask.cli.train.load_data", lambda recipe, options: data.blank(recipe.dataset))
    main([command, *("0" if word == "S" else word for word in rest), "--out", str(tmp_path / "out")])
    [(recipe, how)] = asked
    assert recipe == run.recipe and how["made"] == run.record["made"]
    assert {name: how[name] for name in schema.SEEDS if how[name] is not None} == more


def test_a_grid_of_ones_own_recipe_is_told_once_with_what_is_set_in_it(tmp_path):
    """In a report: a file to keep, and a command for each cell that makes the cell's recipe of it."""
    mine = replace(recipes.RECIPES["fcn"], name="mine", about="my own", optimizer="myopt:Adam",
                   optimizer_settings={"fast": True})
    cells = grid.cells(mine, grid.choices(["wd=1e-3,1e-5", "source_settings.tau=0.1,0.2"]))
    some = [record(cell.recipe, made=cell.as_dict()) for cell in cells]
    reading = records.read([put(tmp_path, *some)])
    text = report.write(reading, tmp_path / "report")[0]
    assert text.count("```toml") == 1 and "Recipe `mine`:" in text
    (tmp_path / "mine.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    base = recipes.read(tmp_path / "mine.toml")
    bases = report._bases(records.groups(reading.runs))
    for run in reading.runs:
        words = shlex.split(report.command_line(run, bases))
        assert words[:3] == ["minimask", "train", "mine.toml"]
        chosen = grid.choices([word for flag, word in itertools.pairwise(words) if flag == "--set"])
        assert [cell.recipe for cell in grid.cells(base, chosen)] == [run.recipe]


def test_runs_whose_seeds_are_of_two_kinds_are_never_averaged(tmp_path):
    some = [record("fcn", 0), record("fcn", 1), *(record("fcn", seed, init_seed=0) for seed in (0, 1)),
            record("fcn", 0, init_seed=1), *(record("fcn", seed, order_seed=0) for seed in (0, 1))]
    for i, each in enumerate(some):
        put(tmp_path / str(i), each)
    reading = records.read([tmp_path])
    groups = records.groups(reading.runs)
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("fcn", 2), ("fcn (weights of seed 0)", 2), ("fcn (weights of seed 1)", 1), ("fcn (order of seed 0)", 2)]
    assert "with different seeds for weights and order are kept apart" in records.kept_apart(groups)
    assert not reading.refused  # a seed counts once in each


def test_tables_for_a_paper_have_what_was_set(tmp_path):
    groups = records.groups(records.read([put(tmp_path, *of_grid("fcn", ["wd=1e-3,1e-5"]))]).runs)
    assert [row["set"] for row in paper.rows(groups)] == [{"wd": 1e-5}, {"wd": 1e-3}]
    assert r"fcn, wd 1e-05 & mnist & 100 & 2 &" in paper.as_latex(groups)
    assert "wd 1e-05" in paper.as_csv(groups) and json.loads(paper.as_json(groups))["rows"][1]["set"] == {"wd": 1e-3}
    plain = records.groups(records.read([put(tmp_path / "plain", record("fcn"))]).runs)
    assert not {"set", "init_seed"} & set(paper.rows(plain)[0])


@pytest.mark.parametrize("wrong", [
    {"init_seed": -1}, {"init_seed": 1.0}, {"order_seed": True}, {"order_seed": None}, {"made": 1}, {"made": {"recipe": "fcn"}},
    {"made": {"recipe": "fcn", "values": {"wd": 0.5}}}])
def test_records_whose_seeds_or_values_cannot_be_are_refused(wrong, tmp_path):
    schema.record(record("fcn"))
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}|was not made by"):
        schema.record({**record("fcn"), **wrong})


def test_the_results_of_a_papers_table_are_no_record(tmp_path):
    put(tmp_path, record("fcn"))
    files.write(tmp_path / "evaluation.json", b'{"made_by": "minimask evaluate", "format": 1}')
    reading = records.read([tmp_path])
    assert [path.name for path in reading.foreign] == ["evaluation.json"] and not reading.refused
