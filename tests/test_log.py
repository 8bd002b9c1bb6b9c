"""Logs: lines that say what happened, the same however a run was stopped; event files; epoch 0."""

import json
import os
import shutil
import struct
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from minimask import MinimaskError, UsageError, checkpoint, data, loop, ops, plot, recipes, runs, train
from minimask.__main__ import main
from minimask.engine import no_grad
from minimask.log import Lines, Log, event_files, read
from minimask.runs import records, report, schema

pytestmark = pytest.mark.once
#: Units die from epoch 2 on, and nets shrink.
TINY = replace(recipes.find("digits"), name="tiny", epochs=3, wd=0.1, source_settings={"tau": 0.005})
STEPS = 12  # of an epoch


def clockless(value):
    return json.loads(json.dumps({name: each for name, each in value.items() if name != "seconds"}))


def lines(folder):
    return [clockless(line) for line in read(folder / "log.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with a line for every step, and its record."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    _, record = runs.run(TINY, data.digits(), 0, folder, log=Log(every_step=True), epoch_0=True)
    return folder, record


def test_a_log_has_a_line_for_the_run_and_for_every_step_and_epoch(whole):
    folder, record = whole
    head, begun, *rest = lines(folder)
    assert head == {"kind": "run", "format": 1, "recipe": "tiny", "seed": 0, "dataset": "digits", "every_step": True,
                    "tensorboard": False}
    assert begun == {"kind": "epoch", **clockless(record["epoch_0"])}
    kinds = [line["kind"] for line in rest]
    assert kinds == (["step"] * STEPS + ["epoch"]) * 3
    assert [line for line in rest if line["kind"] == "epoch"] == [{"kind": "epoch", **clockless(entry)} for entry in record["epochs"]]
    steps = [line for line in rest if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 3 * STEPS + 1))
    assert [line["epoch"] for line in steps] == [1 + i // STEPS for i in range(3 * STEPS)]
    sizes = np.array([128] * (STEPS - 1) + [len(data.digits().train_images) - 128 * (STEPS - 1)])
    for number, entry in enumerate(record["epochs"]):
        losses = [line["train_loss"] for line in steps[number * STEPS:(number + 1) * STEPS]]
        assert np.dot(losses, sizes) / sizes.sum() == pytest.approx(entry["train_loss"], rel=1e-12)
    schedule = TINY.schedule_of(STEPS)
    assert [line["lr"] for line in steps] == [TINY.lr * schedule(i) for i in range(3 * STEPS)]


class Stopping(train.Progress):
    """Ctrl-C after so many steps, behind the log or before anybody has heard of the step."""

    def __init__(self, after):
        super().__init__()
        self.after, self.count = after, 0

    def step(self, *arguments):
        self.count += 1
        if self.count == self.after:
            raise KeyboardInterrupt

    def epoch(self, *arguments):
        pass


@pytest.mark.parametrize("after", [1, STEPS - 1, STEPS, STEPS + 1, 3 * STEPS])
def test_the_log_of_a_run_that_was_stopped_is_that_of_one_that_was_not(after, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        runs.run(TINY, data.digits(), 0, tmp_path / "run", progress=Stopping(after), log=Log(every_step=True), epoch_0=True)
    assert lines(tmp_path / "run") == lines(whole[0])[:len(lines(tmp_path / "run"))]
    assert [line for line in lines(tmp_path / "run") if line["kind"] == "step"][-1]["step"] == after
    runs.run(TINY, data.digits(), 0, tmp_path / "run", resume=True)  # which has a log, and keeps it
    assert lines(tmp_path / "run") == lines(whole[0])
    assert runs.peek(tmp_path / "run")[1] == runs.peek(whole[0])[1]


@pytest.mark.parametrize("after", [1, STEPS, STEPS + 3])
def test_a_step_that_nobody_was_told_of_is_in_the_log(after, whole, tmp_path, monkeypatch):
    """Ctrl-C comes as soon as a step is done."""
    real, count = loop.Training.train_step, []

    def step(training):
        loss = real(training)
        count.append(1)
        if len(count) == after:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(loop.Training, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        runs.run(TINY, data.digits(), 0, tmp_path / "run", log=Log(every_step=True), epoch_0=True)
    assert [line for line in lines(tmp_path / "run") if line["kind"] == "step"][-1]["step"] == after
    monkeypatch.undo()
    runs.run(TINY, data.digits(), 0, tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(whole[0])


def test_steps_behind_the_checkpoint_and_half_a_line_go(whole, tmp_path):
    """As a kill leaves them: the log is ahead of the checkpoint that the run goes on from."""
    early = tmp_path / "early"

    class Copying(train.Progress):
        def step(self, epoch, step, *more):
            if (epoch, step) == (2, 5):
                raise KeyboardInterrupt

        def epoch(self, *arguments):
            pass

    with pytest.raises(KeyboardInterrupt):
        runs.run(TINY, data.digits(), 0, early, progress=Copying(), log=Log(every_step=True), epoch_0=True)
    shutil.copy(whole[0] / "log.jsonl", early / "log.jsonl")
    with open(early / "log.jsonl", "ab") as file:
        file.write(b'{"kind": "step", "step": 3, "ep')
    runs.run(TINY, data.digits(), 0, early, resume=True)
    assert lines(early) == lines(whole[0])


@pytest.mark.parametrize("text", [b"", b"[1]\n", b"\xff\xfe\n", b'{"kind": "step", "step": "3"}\n', b'{"kind": 1}\n' * 3,
                                  b'{"kind": "run", "every_step": [], "tensorboard": 0}\n{"kind": "step", "step": 4}'])
def test_whatever_lies_there_a_log_begins(text, tmp_path):
    runs.run(replace(TINY, epochs=1), data.digits(), 0, tmp_path / "run")
    (tmp_path / "run/log.jsonl").write_bytes(text)
    runs.run(replace(TINY, epochs=2), data.digits(), 0, tmp_path / "run", resume=True, log=Log())
    assert [line["kind"] for line in lines(tmp_path / "run")] == ["run", "epoch", "epoch"]


def test_a_log_that_cannot_be_written_costs_the_log_alone(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    net, rng = runs.drawn(TINY, data.digits(), 0)
    with pytest.warns(UserWarning, match="log.jsonl cannot be written .* training goes on without a log"):
        record = train.fit(net, data.digits(), TINY.optimizer_of(net, data.digits()), 1, rng,
                           listeners=[Lines(tmp_path / "log.jsonl", Log(every_step=True))])
    assert len(record["epochs"]) == 1


def test_overwrite_takes_the_log_away(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    (tmp_path / "run/tensorboard").mkdir()
    (tmp_path / "run/tensorboard/events.out.tfevents.1.here").write_bytes(b"old")
    (tmp_path / "run/tensorboard/mine.txt").write_text("mine")
    runs.run(replace(TINY, epochs=1), data.digits(), 0, tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run/log.jsonl").exists() and os.listdir(tmp_path / "run/tensorboard") == ["mine.txt"]


def test_the_command_line_says_what_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "write_pictures", lambda *_: [])
    (tmp_path / "tiny.toml").write_text(replace(TINY, epochs=1).toml())
    for words, kinds in ((["--log"], {"run": 1, "epoch": 1}), (["--every-step"], {"run": 1, "step": STEPS, "epoch": 1}),
                         (["--log", "--epoch-0"], {"run": 1, "epoch": 2})):
        assert main(["train", "tiny.toml", "--overwrite", "--quiet", *words]) == 0
        found = [line["kind"] for line in read(tmp_path / "runs/tiny-seed0/log.jsonl")]
        assert {kind: found.count(kind) for kind in set(found)} == kinds
    assert main(["train", "tiny.toml", "--resume", "--epochs", "2", "--quiet"]) == 0
    assert [line["epoch"] for line in read(tmp_path / "runs/tiny-seed0/log.jsonl") if line["kind"] == "epoch"] == [0, 1, 2]
    with pytest.raises(UsageError, match="a log lies in the run's folder: say which"):
        runs.run(TINY, data.digits(), 0, log=Log())


def test_a_log_of_a_run_that_made_no_step_is_no_run_and_a_file_of_that_name_is_mine(whole, tmp_path):
    """A kill while the net is measured for epoch 0 leaves a log alone."""
    (tmp_path / "run").mkdir()
    shutil.copy(whole[0] / "log.jsonl", tmp_path / "run")
    runs.run(replace(TINY, epochs=1), data.digits(), 0, tmp_path / "run")
    assert not (tmp_path / "run/log.jsonl").exists()
    for text in ("mine", "{}"):
        (tmp_path / "log.jsonl").write_text(text)
        with pytest.raises(UsageError, match=r"holds a run already \(log.jsonl\)"):
            runs.run(TINY, data.digits(), 0, tmp_path)
    with pytest.raises(UsageError, match=r"holds a run already \(record.json, "):
        runs.run(TINY, data.digits(), 0, whole[0])


# ---- TensorBoard -----------------------------------------------------------------------------------------------------


def scalars(path):
    """tag -> [(step, value)] of an event file, by the frames of TFRecord: length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content, at, found = path.read_bytes(), 0, {}
    while at < len(content):
        [size] = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12:at + 12 + size])
        at += size + 16
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_event_files_hold_the_numbers_of_the_log_also_of_a_run_that_was_stopped(whole, tmp_path):
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        runs.run(TINY, data.digits(), 0, folder, progress=Stopping(STEPS + 5), log=Log(True, True), epoch_0=True)
    [path] = event_files(folder)
    path.rename(path.with_name("events.out.tfevents.1.before"))  # as if it were from another second
    runs.run(TINY, data.digits(), 0, folder, resume=True)
    [path] = event_files(folder)
    found = scalars(path)
    steps = [line for line in lines(whole[0]) if line["kind"] == "step"]
    epochs = [line for line in lines(whole[0]) if line["kind"] == "epoch"]
    for tag, some, name in (("step/train_loss", steps, "train_loss"), ("loss/train", epochs, "train_loss"),
                            ("accuracy/test", epochs, "test_accuracy"), ("mask/weights_left", epochs, "weights_left")):
        assert found[tag] == [(line["step"], np.float32(line[name])) for line in some], tag
    assert [value for _, value in found["hidden/dense1"]] == [
        np.float32(line["layers"][0]["hidden"] / line["layers"][0]["weights"]) for line in epochs]


def test_without_tensorboardx_it_is_said_before_anything_is_touched(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert main(["train", "digits", "--tensorboard", "--out", str(tmp_path / "run")]) == 1
    assert "event files need tensorboardX: pip install tensorboardX; without" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    runs.run(replace(TINY, epochs=1), data.digits(), 0, tmp_path / "run", log=Log())
    head, *rest = (tmp_path / "run/log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run/log.jsonl").write_text(head.replace('"tensorboard": false', '"tensorboard": true') + "".join(rest))
    with pytest.warns(UserWarning, match="tensorboardX.*; training goes on"):
        runs.run(replace(TINY, epochs=2), data.digits(), 0, tmp_path / "run", resume=True)
    assert [line["kind"] for line in lines(tmp_path / "run")] == ["run", "epoch", "epoch"]


# ---- epoch 0 ---------------------------------------------------------------------------------------------------------


def test_epoch_0_is_the_net_as_it_was_drawn_and_changes_nothing(whole):
    folder, record = whole
    digits, (net, _) = data.digits(), runs.drawn(TINY, data.digits(), 0)
    entry = record["epoch_0"]
    assert (entry["epoch"], entry["step"], entry["flips"], entry["seconds"]) == (0, 0, 0, 0)
    assert entry["test_accuracy"] == train.evaluate(net, digits.test_images, digits.test_labels)
    assert entry["train_accuracy"] == train.evaluate(net, digits.train_images, digits.train_labels)
    assert entry["weights_left"] == net.weights_left()
    with no_grad():
        loss = ops.cross_entropy(net(data.standardise(digits.train_images)), digits.train_labels).item()
    assert entry["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert [row["dead"] for row in entry["layers"] if "dead" in row] == [0, 0]
    plain, without = runs.run(TINY, digits, 0)
    assert [clockless(each) for each in without["epochs"]] == [clockless(each) for each in record["epochs"]]
    for name, array in runs.load(folder)[0].arrays().items():
        assert np.array_equal(array, plain.arrays()[name]), name


def test_epoch_0_is_measured_at_the_beginning_or_not_at_all(tmp_path):
    one = replace(TINY, epochs=1)
    runs.run(one, data.digits(), 0, tmp_path / "run")
    with pytest.raises(UsageError, match=r"epoch 0 is over: the run has made 12 steps; begin it anew"):
        runs.run(TINY, data.digits(), 0, tmp_path / "run", resume=True, epoch_0=True)
    _, record = runs.run(one, data.digits(), 0, tmp_path / "run", overwrite=True, epoch_0=True)
    _, again = runs.run(TINY, data.digits(), 0, tmp_path / "run", resume=True, epoch_0=True)  # it is there
    assert again["epoch_0"] == record["epoch_0"]
    assert runs.read_record(tmp_path / "run")["epoch_0"] == record["epoch_0"]


@pytest.mark.parametrize(("wrong", "sentence"), [
    ({"epoch": 1}, "epoch 0 calls itself epoch 1"), ({"step": 12}, "epoch 0 calls itself epoch 0, step 12"),
    ({"test_accuracy": 2}, "epoch 0 has test_accuracy 2"), ({"layers": []}, "epoch 0 has no layers"), ({"flips": 10**9}, "epoch 0 says")])
def test_an_epoch_0_that_cannot_be_is_refused_in_records_and_checkpoints(wrong, sentence, whole, tmp_path):
    record = json.loads(json.dumps(whole[1]))
    schema.record(record)
    record["epoch_0"] |= wrong
    with pytest.raises(ValueError) as error:
        schema.record(record)
    assert sentence in str(error.value)
    state = checkpoint.load(whole[0] / "checkpoint.npz")
    checkpoint.save(tmp_path / "a.npz", checkpoint.State(state.arrays, {**state.run, "record": record}))
    if "flips" not in wrong:
        with pytest.raises(MinimaskError, match="epoch 0"):
            checkpoint.peek(tmp_path / "a.npz")


@pytest.mark.parametrize("wrong", [None, 1, [], {}])
def test_an_epoch_0_that_is_none_is_refused(wrong, whole):
    with pytest.raises(ValueError, match="epoch 0 "):
        schema.record({**whole[1], "epoch_0": wrong})


def test_charts_and_reports_begin_at_epoch_0_where_all_runs_have_it(whole, tmp_path):
    record = whole[1]
    without = {name: value for name, value in record.items() if name != "epoch_0"}
    first = next(item for item in plot.course(record).panels[-1].items if item.__class__.__name__ == "Line")
    assert list(first.x) == [0, 1, 2, 3]
    for some in (without, [record, without]):
        assert next(item for item in plot.course(some).panels[-1].items if item.__class__.__name__ == "Line").x[0] == 1
    for each, epochs in ((record, ["0", "1", "2", "3"]), (without, ["1", "2", "3"])):
        (tmp_path / "a.json").write_text(json.dumps(each))
        reading = records.read([tmp_path / "a.json"])
        chart = report.charts(records.groups(reading.runs))[1]
        assert [row[0] for row in chart.table.rows] == epochs
        assert f"% after epoch {epochs[0]})" in chart.note
    entry = record["epoch_0"]
    assert report.charts(records.groups(records.read([whole[0]]).runs))[1].table.rows[0][1] == f"{100 * entry['test_accuracy']:.2f}"


def test_a_test_loss_is_shown_where_there_is_one(whole, tmp_path):
    record = json.loads(json.dumps(whole[1]))
    for entry in (record["epoch_0"], *record["epochs"]):
        entry["test_loss"] = 0.5 / (1 + entry["epoch"])
    (tmp_path / "a.json").write_text(json.dumps(record))
    [panel] = [panel for panel in plot.course(record).panels if panel.title == "test loss"]
    assert panel.items[0].y == [0.5, 0.25, 0.5 / 3, 0.125]
    table = report.charts(records.groups(records.read([tmp_path / "a.json"]).runs))[1].table
    assert table.head[4] == "test loss" and [row[4] for row in table.rows] == ["0.5000", "0.2500", "0.1667", "0.1250"]
    assert not [panel for panel in plot.course(whole[1]).panels if panel.title == "test loss"]


def test_nothing_is_said_of_a_log_that_nobody_asked_for(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.run(replace(TINY, epochs=1), data.digits(), 0, tmp_path / "run")
    assert not (tmp_path / "run/log.jsonl").exists()
