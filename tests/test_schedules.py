"""Cosine, linear, steps, warm-up and what is composed of them: by hand, against PyTorch, by name, and in a checkpoint."""

import inspect
import json
import math

import numpy as np
import pytest

from minimask import UsageError, data, models, optim, recipes, schedules, train
from minimask.mask import Trained
from minimask.optim import SGDW, Plateau, constant, exponential
from minimask.schedules import Cosine, Linear, Product, Sequence, Step, Warmup


def factors(schedule, steps):
    return [schedule(t) for t in range(steps)]


def torchs(torch, make, steps):
    """The factors of PyTorch's schedule."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_by_hand():
    assert factors(Cosine(4), 7) == pytest.approx([1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0, 0, 0])
    assert factors(Cosine(2, 0.2), 4) == pytest.approx([1, 0.6, 0.2, 0.2])
    assert factors(Linear(4, 0.2), 6) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert factors(Step(3, 0.1), 8) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert factors(Warmup(4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert factors(Warmup(2, Step(2, 0.5)), 7) == [0.5, 1, 1, 1, 0.5, 0.5, 0.25]
    assert factors(Sequence((2, 4), (constant, Linear(4), lambda t: 0.1 * t)), 7) == pytest.approx([1, 1, 1, 0.75, 0, 0.1, 0.2])
    assert factors(Product((Warmup(2), Step(2, 0.5))), 5) == [0.5, 1, 0.5, 0.5, 0.25]


def test_they_are_pytorchs(torch):
    lr = torch.optim.lr_scheduler
    assert factors(Cosine(20, 0.1), 20) == pytest.approx(torchs(torch, lambda o: lr.CosineAnnealingLR(o, 20, eta_min=0.1), 20))
    assert factors(Linear(10, 0.3), 15) == pytest.approx(torchs(torch, lambda o: lr.LinearLR(o, 1.0, 0.3, 10), 15))
    assert factors(Step(7, 0.5), 30) == pytest.approx(torchs(torch, lambda o: lr.StepLR(o, 7, 0.5), 30))
    assert factors(Warmup(5, Cosine(20)), 25) == pytest.approx(torchs(torch, lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 1 / 5, 1.0, 4), lr.CosineAnnealingLR(o, 20)], [5]), 25))


def recipe(**settings):
    return recipes.Recipe("mine", "", 5, 0.1, 1e-4, **settings)


@pytest.mark.parametrize(("name", "settings", "expected"), [
    ("constant", {}, constant), ("exponential", {}, exponential(0.9, 30)),
    ("exponential", {"rate": 0.5, "epochs": 2, "warmup": 1}, Warmup(3, exponential(0.5, 6))),
    ("cosine", {"epochs": 4}, Cosine(12)), ("cosine", {"epochs": 4, "least": 0.1, "warmup": 0.5}, Warmup(2, Cosine(12, 0.1))),
    ("linear", {"epochs": 2, "warmup": 1}, Warmup(3, Linear(6))), ("step", {}, Step(90, 0.1)),
    ("step", {"epochs": 1, "factor": 0.5}, Step(3, 0.5)), ("constant", {"warmup": 2}, Warmup(6))])
def test_by_name_in_epochs(name, settings, expected):
    made = recipe(schedule=name, schedule_settings=settings).schedule_of(3)
    assert factors(made, 40) == factors(expected, 40)


def test_the_tables_of_settings_are_what_the_code_takes():
    assert set(schedules.SETTINGS) == set(schedules.SCHEDULES)
    for name, make in schedules.SCHEDULES.items():
        taken = list(inspect.signature(make if name != "plateau" else Plateau).parameters)
        assert list(schedules.SETTINGS[name]) == [each for each in taken if each != "steps_per_epoch"]


def test_a_checkpoint_goes_on_with_its_schedule_only(tmp_path):
    """Two schedules that agree at the very step, and nowhere after it."""
    images, labels = np.random.default_rng(0).random((20, 2, 2, 1)), np.arange(20) % 2
    own = data.Dataset("own", images, labels, images, labels, ("a", "b"), preprocess="image")

    def fit(schedule, epochs, resume=False):
        rng = np.random.default_rng(0)
        net = models.fcn(Trained(), rng, (2, 2, 1), (4, 2))
        train.fit(net, own, SGDW(net.parameters(), 0.01, schedule=schedule), epochs, rng, 10, checkpoint=tmp_path / "c",
                  resume=resume)

    fit(Step(100, 0.5), 1)
    with pytest.raises(UsageError, match="is of another run: its (every|kind|factor) is "):
        fit(Step(50, 0.5), 2, resume=True)
    fit(Step(100, 0.5), 2, resume=True)
    composed = Warmup(3, Sequence((2,), (Cosine(5), Product((Linear(3, 0.5), constant)))))
    assert composed.settings() == {"kind": "Warmup", "steps": 3, "then": {
        "kind": "Sequence", "until": [2], "schedules": [
            {"kind": "Cosine", "steps": 5, "least": 0.0},
            {"kind": "Product", "schedules": [{"kind": "Linear", "steps": 3, "least": 0.5}, {}]}]}}


def test_a_toml_of_all_new_keys_comes_back_and_a_default_one_has_none_of_them(tmp_path):
    whole = recipe(schedule="cosine", schedule_settings={"epochs": 5, "warmup": 1}, loss="cross-entropy",
                   loss_settings={"smoothing": 0.1}, optimizer="adam", optimizer_settings={"beta2": 0.99, "clip_norm": 1,
                   "undecayed": "*.scale"}, metric="top5", test_loss=True)
    (tmp_path / "mine.toml").write_text(whole.toml())
    assert recipes.read(tmp_path / "mine.toml") == whole == recipes.from_dict(whole.as_dict())
    default = recipe()
    assert not set(default.as_dict()) & set(recipes.NEWER) and "loss" not in default.toml() and "optimizer" not in default.toml()
    assert recipes.from_dict({**default.as_dict(), "loss": "cross-entropy", "optimizer": "sgdw", "test_loss": False}) == default


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: Cosine(0), "cosine: it falls in 0 steps"),
    (lambda: Linear(5, 1.5), "to 1.5; give .* a least factor from 0 to 1"),
    (lambda: Step(0), "step: every 0"), (lambda: Step(3, 0.0), "factor 0.0"),
    (lambda: Warmup(-1), "warm-up: -1 steps"),
    (lambda: Warmup(5, Plateau()), "warm-up: Plateau cannot be part of another schedule"),
    (lambda: Product((constant, Plateau())), "Product: Plateau cannot"),
    (lambda: Product((constant, 0.5)), "Product: float cannot"),
    (lambda: Sequence((3, 2), (constant,) * 3), r"the steps \(3, 2\); give one more schedule"),
    (lambda: Sequence((3,), (constant,)), "1 schedules"),
    (lambda: recipe(schedule="cosine"), r"recipe 'mine': cosine: it falls in 0 steps to 0; give .*in a recipe: epochs"),
    (lambda: recipe(schedule="cosine", schedule_settings={"epochs": 5, "warmup": -1}), "warmup is -1.0 epochs"),
    (lambda: recipe(schedule="plateau", schedule_settings={"warmup": 1}), "unknown key 'warmup'"),
    (lambda: recipe(schedule="cosin"), "unknown schedule 'cosin'.*cosine"),
    (lambda: recipe(loss="mse", loss_settings={"smoothing": 0.1}), "takes no settings"),
    (lambda: recipe(loss_settings={"smoothing": 2}), "smoothing is 2.0"),
    (lambda: recipe(metric="f7"), "unknown metric 'f7'"),
])
def test_mistakes(call, sentence):
    with pytest.raises(UsageError, match=sentence):
        call()


def test_optims_own_are_as_they_were():
    assert optim.SGDW.__init__.__defaults__[-1] is constant and recipe().schedule_of(7)(70) == pytest.approx(0.9)


def test_lists_will_do_and_a_checkpoint_can_hold_them():
    for schedule in (schedules.Sequence([2, 4], [optim.constant, schedules.Linear(3), optim.constant]),
                     schedules.Product([schedules.Warmup(3), schedules.Step(2)])):
        assert json.loads(json.dumps(schedule.settings()))["schedules"] and hash(schedule) is not None


def test_a_warm_up_never_goes_above_1():
    """Half of 5 steps is no whole number."""
    assert [schedules.Warmup(2.5)(step) for step in range(5)] == [0.4, 0.8, 1, 1, 1]
