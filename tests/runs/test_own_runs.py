"""Runs whose recipe names own code: trained, resumed, swept, and read without anything of it being imported."""

import json
import re
import shutil
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from minimask import data, own, recipes, runs, train
from minimask.__main__ import main
from minimask.anatomy import page
from minimask.errors import UsageError
from minimask.export import header
from minimask.runs import sweep, workers

RECIPE = """
name = "mine"
about = "a tiny net"
epochs = 2
lr = 0.05
wd = 0.001
dataset = "digits"
model = "{module}:net"
source = "{module}:rule"
schedule = "{module}:falling"
[model_settings]
units = [20]
"""
MODULE = """
    import pathlib
    from minimask import nn, optim
    from minimask.mask import SignedSupermask

    with open(pathlib.Path(__file__).with_name("imported"), "a") as marker:
        marker.write("x")

    def net(weights, rng, input_shape, backend, classes, units):
        return nn.Sequential([nn.Flatten(), nn.Dense(64, units[0], weights, rng, backend=backend), nn.ELU(),
                              nn.Dense(units[0], classes, weights, rng, backend=backend)], input_shape)

    def rule():
        return SignedSupermask(tau=0.001)

    def falling(steps_per_epoch):
        return optim.exponential(0.5, every=steps_per_epoch)
"""
numbers = iter(range(1000))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a recipe and its module, which leaves a mark when it is imported; and the module's name."""
    module = f"own_run_{next(numbers)}"
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my.toml").write_text(RECIPE.format(module=module))
    (folder / f"{module}.py").write_text(textwrap.dedent(MODULE))
    path = list(sys.path)
    yield folder, module
    sys.path[:] = path
    forget(module)


def forget(module):
    """As in another process."""
    sys.modules.pop(module, None)
    own._imported.pop(module, None)


def marks(folder):
    return len((folder / "imported").read_text()) if (folder / "imported").exists() else 0


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Which take longer than these runs."""
    monkeypatch.setattr(runs, "write_pictures", lambda *arguments: [])


def trained(folder, module):
    out = folder.parent / "run"
    runs.run(recipes.find(str(folder / "my.toml")), data.digits(), 0, out)
    forget(module)
    (folder / "imported").unlink(missing_ok=True)
    return out


def test_a_recipe_of_own_code_trains_and_its_record_tells_of_it(project, capsys):
    folder, module = project
    out = trained(folder, module)
    record = runs.read_record(out)
    assert record["recipe"]["model"] == f"{module}:net" and "code" not in record["recipe"]
    assert list(record["environment"]["own_code"]) == [module] and record["environment"]["own_folder"] == "../project"
    assert runs.finished(record) and marks(folder) == 0


def test_going_on_from_the_folder_alone_takes_trust(project, capsys):
    folder, module = project
    out = trained(folder, module)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert main(["train", "--resume", str(out), "--epochs", "3", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert re.search(rf"own code, {module}:\w+, and to import it would run it: .*say --trust", said) and "bug" not in said
    assert marks(folder) == 0 and before == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert main(["train", "--resume", str(out), "--epochs", "3", "--quiet", "--trust"]) == 0
    assert len(runs.read_record(out)["epochs"]) == 3 and marks(folder) == 1
    forget(module)
    assert main(["train", str(folder / "my.toml"), "--resume", "--out", str(out), "--epochs", "4", "--quiet"]) == 0
    assert "continued" not in runs.read_record(out)["environment"]


def test_the_run_is_the_same_however_often_it_stops(project):
    folder, module = project
    recipe = recipes.find(str(folder / "my.toml"))
    runs.run(recipe, data.digits(), 0, folder / "whole")

    class Stop(train.Progress):
        def step(self, epoch, step, steps, loss):
            if (epoch, step) == (2, 3):
                raise KeyboardInterrupt

        def epoch(self, entry, epochs): ...

        def stop(self): ...

    with pytest.raises(KeyboardInterrupt):
        runs.run(recipe, data.digits(), 0, folder / "stopped", progress=Stop())
    runs.run(recipe, data.digits(), 0, folder / "stopped", resume=True)
    assert runs.peek(folder / "whole")[1] == runs.peek(folder / "stopped")[1]


def test_a_run_and_its_code_may_move_together(project, tmp_path, capsys):
    folder, module = project
    trained(folder, module)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "run").rename(moved / "run")
    (folder).rename(moved / "project")
    assert main(["train", "--resume", str(moved / "run"), "--epochs", "3", "--quiet", "--trust"]) == 0
    assert marks(moved / "project") == 1


def test_a_run_that_moves_alone_has_another_way_to_its_code(project, tmp_path, capsys):
    """Which is no change of the run."""
    folder, module = project
    run = trained(folder, module)
    (tmp_path / "deep/er").mkdir(parents=True)
    run.rename(tmp_path / "deep/er/run")
    words = ["--resume", "--out", str(tmp_path / "deep/er/run"), "--epochs", "3", "--quiet"]
    assert main(["train", str(folder / "my.toml"), *words]) == 0 and not capsys.readouterr().err
    environment = runs.read_record(tmp_path / "deep/er/run")["environment"]
    assert environment["own_folder"] == "../../../project" and "continued" not in environment


def test_changed_code_is_said_and_noted(project, capsys):
    folder, module = project
    out = trained(folder, module)
    file = folder / f"{module}.py"
    file.write_text(file.read_text().replace("0.5", "0.25"))
    # a schedule is known by the factor that it gives at the step of the checkpoint: another one is another run
    assert main(["train", str(folder / "my.toml"), "--resume", "--out", str(out), "--epochs", "3", "--quiet"]) == 2
    assert "its schedule gives 0.25 at step 24, this one not" in capsys.readouterr().err
    forget(module)
    file.write_text(file.read_text().replace("0.25", "0.5") + "# a remark\n")
    assert main(["train", str(folder / "my.toml"), "--resume", "--out", str(out), "--epochs", "3", "--quiet"]) == 0
    said = capsys.readouterr().err
    assert re.search(rf"minimask: {module} has changed since .*\(digest \w{{16}} then, \w{{16}} now\): from step 24 on the "
                     "new code trains, and the record says so", said) and "last digits" not in said
    environment = runs.read_record(out)["environment"]
    assert environment["continued"][0]["step"] == 24
    assert environment["continued"][0]["environment"]["own_code"] != environment["own_code"]


def test_what_goes_wrong_while_training_is_the_users_and_nothing_is_lost(project, capsys):
    folder, module = project
    file = folder / f"{module}.py"
    good = file.read_text()
    runs.run(recipes.find(str(folder / "my.toml")), data.digits(), 0, folder / "whole")
    forget(module)
    file.write_text(good.replace('return optim.exponential(0.5, every=steps_per_epoch)',
                                 'return lambda step: 0.5 ** (step / steps_per_epoch) / (step != 15)'))
    out = folder.parent / "run"
    assert main(["train", str(folder / "my.toml"), "--out", str(out), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert re.search(rf"{module}\.py, line 17, in <lambda>: ZeroDivisionError: .*\(in your own code\), saved in", said)
    assert "bug in minimask" not in said and len(runs.read_record(out)["epochs"]) == 1
    forget(module)
    file.write_text(good)
    assert main(["train", str(folder / "my.toml"), "--out", str(out), "--quiet", "--resume"]) == 0
    assert "has changed" in capsys.readouterr().err
    assert runs.peek(out)[1] == runs.peek(folder / "whole")[1]


def test_a_module_that_cannot_be_imported_leaves_no_folder(project, capsys):
    folder, module = project
    (folder / f"{module}.py").write_text("import pathlib\n1 / 0\n")
    for words in (["train", str(folder / "my.toml"), "--out"], ["sweep", str(folder / "my.toml"), "--out"],
                  ["step", str(folder / "my.toml"), "--out"]):
        assert main([*words, str(folder.parent / "out")]) == 1
        said = capsys.readouterr().err
        assert f"{module}.py, line 2: ZeroDivisionError: division by zero (in your own code)" in said, words
        assert not (folder.parent / "out").exists()


def test_a_recipe_file_in_the_folder_of_a_run_or_a_sweep_came_with_it(project, capsys):
    folder, module = project
    for name in ("record.json", "sweep.json"):
        (folder / name).write_text("{}")
        assert main(["train", str(folder / "my.toml"), "--out", str(folder.parent / "out")]) == 2
        assert "say --trust" in capsys.readouterr().err and marks(folder) == 0
        (folder / name).unlink()
    (folder.parent / "sweep.json").write_text("{}")
    assert main(["sweep", str(folder / "my.toml"), "--out", str(folder / "out")]) == 2
    assert "say --trust" in capsys.readouterr().err and marks(folder) == 0
    assert main(["train", str(folder / "my.toml"), "--out", str(folder / "out"), "--quiet", "--trust"]) == 0


def test_so_did_one_however_deep_in_it_and_one_that_is_a_link_from_there(project, tmp_path):
    folder, module = project
    run = tmp_path / "run"
    (run / "anatomy" / "deeper").mkdir(parents=True)
    (run / "record.json").write_text("{}")
    (run / "linked.toml").symlink_to(folder / "my.toml")
    shutil.copytree(folder, run / "anatomy" / "deeper" / "still")
    for path in (run / "linked.toml", run / "anatomy" / "deeper" / "still" / "my.toml"):
        assert recipes.read(path).code is None and recipes.read(path, trust=True).code is not None
    assert recipes.read(folder / "my.toml").code is not None


def test_a_sweep_of_processes_imports_it_and_goes_on(project, capfd):
    """As each alone; the same command again finds them finished."""
    folder, module = project
    words = ["sweep", str(folder / "my.toml"), "--seeds", "2", "--jobs", "2", "--out", str(folder.parent / "swept")]
    assert main(words) == 0
    recipe = recipes.find(str(folder / "my.toml"))
    for seed in range(2):
        runs.run(recipe, data.digits(), seed, folder.parent / f"alone{seed}")
        assert runs.peek(folder.parent / f"swept/mine-seed{seed}")[1] == runs.peek(folder.parent / f"alone{seed}")[1]
        record = runs.read_record(folder.parent / f"swept/mine-seed{seed}")
        assert record["environment"]["own_folder"] == "../../project"
    capfd.readouterr()
    assert main(words) == 0 and capfd.readouterr().err.count("it was finished before") == 2


def test_a_sweep_folder_gives_no_leave(project, tmp_path):
    """What sweep.json and the records below it name is compared, and not imported, whatever recipe is asked for."""
    folder, module = project
    recipe = recipes.find(str(folder / "my.toml"))
    (swept := tmp_path / "swept").mkdir()
    [task] = sweep.tasks([recipe], [0], swept)
    sweep.claim(swept, [task])
    assert task.digests and workers.work(task).state == "done"
    assert marks(folder) == 1
    forget(module)
    stranger = recipes.from_dict({**sweep.read_index(swept)["recipes"]["mine"], "epochs": 5})
    with pytest.raises(own.Untrusted):
        sweep.tasks([stranger], [0], swept)
    bare = replace(task, recipe=stranger.as_dict(), code=None, digests={})
    assert not workers.finished(bare)
    assert "own code" in workers.work(bare).error and marks(folder) == 1


def test_a_worker_with_other_code_is_held_up(project, tmp_path):
    folder, module = project
    [task] = sweep.tasks([recipes.find(str(folder / "my.toml"))], [0], tmp_path)
    forget(module)
    file = folder / f"{module}.py"
    file.write_text(file.read_text() + "# changed\n")
    outcome = workers.work(task)
    assert outcome.state == "held" and f"another source of {module} (digest " in outcome.error
    forget(module)
    file.write_text("raise ValueError('mine')\n")
    outcome = workers.work(task)
    assert outcome.state == "failed" and f"{module}.py, line 1: ValueError: mine" in outcome.error


def test_a_schedule_that_ends_a_run_early_has_ended_it(project):
    folder, module = project
    file = folder / f"{module}.py"
    file.write_text(file.read_text().replace("optim.exponential(0.5, every=steps_per_epoch)", "optim.Plateau("
                                             "patience=1, max_cuts=1, min_delta=1e9)"))
    recipe = recipes.from_dict({**recipes.read(folder / "my.toml").as_dict(), "epochs": 9}, own.Code(str(folder)))
    _, record = runs.run(recipe, data.digits(), 0, folder / "run")
    assert len(record["epochs"]) < 9 and record["ended"] is True
    assert runs.finished(json.loads((folder / "run/record.json").read_text()))
    assert not runs.finished({**record, "ended": False})


# ---- reading what others have made ---------------------------------------------------------------------------------

RULE = """

class Half(SignedSupermask):
    def step(self, scores):
        return super().step(scores) * 1.0
"""


def said(capsys, status, *words):
    """What a command printed, both streams, after it ended with that status."""
    assert main([str(word) for word in words]) == status, capsys.readouterr()
    found = capsys.readouterr()
    assert "bug in minimask" not in found.err
    return found.out + found.err


def test_reading_a_run_imports_nothing(project, tmp_path, capsys):
    """With an own model and an own rule: its net is built from what its record says, and the mask lies in the folder."""
    folder, module = project
    file = folder / f"{module}.py"
    file.write_text(file.read_text().replace("return SignedSupermask(", "return Half(") + RULE)
    run = trained(folder, module)
    net, record = runs.load(run)
    assert record["net"]["rules"]["dense1"]["rule"] == "Half" and net.masks()
    assert "mine, seed 0, digits, 2 epochs" in said(capsys, 0, "compare", run, run)
    said(capsys, 0, "export", run, "-o", tmp_path / "mine.mmk")
    said(capsys, 0, "evaluate", run)
    out = said(capsys, 0, "report", run, "--out", tmp_path / "report")
    assert "| mine |" in out.replace("`", "") and f'model = "{module}:net"' in out
    assert marks(folder) == 0
    real, _ = runs.load(run, trust=True)
    assert marks(folder) == 1 and type(real.weights()["dense1"]).__name__ == "Half"
    assert all((real.masks()[name] == mask).all() for name, mask in net.masks().items())


def test_inspecting_a_run_imports_nothing(project, capsys, monkeypatch):
    monkeypatch.setattr(page, "write", lambda out, net, *others: [str(page.numbers(net, *others[:2], 1)["weights_left"])])
    folder, module = project
    run = trained(folder, module)
    left = runs.read_record(run)["epochs"][-1]["weights_left"]
    assert str(left) in said(capsys, 0, "inspect", run) and marks(folder) == 0


def test_a_net_with_own_layers_takes_trust_and_a_registered_writer(project, tmp_path, capsys):
    """The module registers its layer where it defines it: what it writes is an identity in PyTorch's file."""
    folder, module = project
    file = folder / f"{module}.py"
    file.write_text(file.read_text().replace("nn.ELU(),\n", "nn.ELU(), Same(),\n") + textwrap.dedent("""
        from minimask import interchange
        from minimask.export import header

        class Same(nn.Layer):
            def __call__(self, x, training=False):
                return x

        interchange.register(Same, interchange.IDENTITY)
        header.KINDS["Same"] = header.Kind(lambda *_: {}, lambda spec: Same())
    """))
    run = trained(folder, module)
    header.KINDS.pop("Same", None)
    for words in (["export", run, "-o", tmp_path / "a.mmk"], ["evaluate", run]):
        assert re.search(rf"is own code, {module}:\w+, .*say --trust", said(capsys, 2, *words)), words
    said(capsys, 0, "compare", run, run)
    said(capsys, 0, "report", run, "--out", tmp_path / "report")
    assert marks(folder) == 0
    said(capsys, 0, "evaluate", run, "--trust")
    assert marks(folder) == 1
    said(capsys, 0, "export", run, "-o", tmp_path / "a.safetensors", "--trust")
    said(capsys, 0, "export", run, "-o", tmp_path / "a.mmk", "--trust")
    header.KINDS.pop("Same", None)


def test_runs_of_changed_code_are_kept_apart_in_a_report(project, tmp_path, capsys):
    folder, module = project
    for seed in range(2):
        assert main(["train", str(folder / "my.toml"), "--out", str(tmp_path / f"runs/{seed}"), "--quiet", "--seed",
                     str(seed)]) == 0
    out = said(capsys, 0, "report", tmp_path / "runs", "--out", tmp_path / "report")
    assert "2 runs of 1 recipe" in out and "kept apart" not in out and "own code" not in out
    forget(module)
    (folder / f"{module}.py").write_text((folder / f"{module}.py").read_text() + "# changed\n")
    assert main(["train", str(folder / "my.toml"), "--out", str(tmp_path / "runs/2"), "--quiet", "--seed", "2"]) == 0
    out = said(capsys, 0, "report", tmp_path / "runs", "--out", tmp_path / "report")
    assert "3 runs of 1 recipe" in out and "by own code of different digests are kept apart" in out
    assert out.count(f"own code {module} ") >= 2


@pytest.mark.parametrize("name", ["os:getcwd", "pathlib:Path.cwd", "{module}:net"])
def test_a_record_of_a_stranger_runs_nothing(project, tmp_path, capsys, name):
    """Whatever its recipe names, in its record and in its checkpoint, and wherever it says that the code lies."""
    folder, module = project
    run = trained(folder, module)
    record = json.loads((run / "record.json").read_text())
    del record["net"]
    record["recipe"]["model"] = name.format(module=module)
    record["environment"]["own_folder"] = str(folder)
    (run / "record.json").write_text(json.dumps(record))
    for words in (["export", run, "-o", tmp_path / "a.mmk"], ["inspect", run], ["compare", run, run], ["step", run],
                  ["evaluate", run], ["train", "--resume", run]):
        assert "say --trust" in said(capsys, 2, *words), words
    said(capsys, 0, "report", run, "--out", tmp_path / "report")
    assert marks(folder) == 0 and module not in sys.modules


def test_the_example_of_the_page_trains(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs/own.md").read_text(encoding="utf-8")
    section = text.partition("## Own code by name\n")[2].partition("\n## ")[0]
    code, recipe = (re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1] for language in ("python", "toml"))
    (tmp_path / "mynets.py").write_text(code)
    (tmp_path / "my.toml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    try:
        assert "own code" not in said(capsys, 0, "train", "my.toml", "--quiet", "--epochs", "1")
        assert runs.load("runs/tiny-seed0")[0].masks()
    finally:
        forget("mynets")
        sys.path[:] = path


def test_an_own_preprocessing_takes_trust_where_images_are_read(project, tmp_path, capsys):
    folder, module = project
    file = folder / f"{module}.py"
    file.write_text(file.read_text() + "\n\ndef sixteenth(images):\n    return images.astype('float32') / 16\n")
    recipe = (folder / "my.toml").read_text()
    (folder / "my.toml").write_text(recipe.replace("epochs = 2", f'epochs = 1\npreprocess = "{module}:sixteenth"'))
    run = trained(folder, module)
    for command in ("evaluate", "inspect"):
        assert re.search(f"preprocessing of .* is own code, {module}:sixteenth, .*say --trust", said(capsys, 2, command, run))
    said(capsys, 0, "export", run, "-o", tmp_path / "a.mmk")
    assert marks(folder) == 0
    net, record = runs.load(run)  # and the same, kept from Python
    with pytest.raises(UsageError, match="give the data set"):
        runs.save(net, record, tmp_path / "kept")
    runs.save(net, {**record, "recipe": {}}, tmp_path / "kept", recipes.find(str(folder / "my.toml")).prepared(data.digits()))
    forget(module)
    assert "say --trust" in said(capsys, 2, "evaluate", tmp_path / "kept")
    sys.path.append(str(folder))
    for each in (run, tmp_path / "kept"):
        assert f"{record['epochs'][-1]['test_accuracy']:.2%}" in said(capsys, 0, "evaluate", each, "--trust")
