"""Adam, groups and clipping: against PyTorch's trajectories, by hand, and stopped and resumed to the bit."""

import numpy as np
import pytest
from test_optim import CURVATURE, START, gradient, trajectory

from minimask import Tensor, UsageError, checkpoint, data, models, optim, optimizers, recipes, shrink, train
from minimask.mask import SignedSupermask, Trained
from minimask.optim import SGD, SGDW, Plateau, exponential
from minimask.optimizers import Adam, Groups, clip

RNG = np.random.default_rng(0)
BLOBS = data.Dataset("blobs", RNG.integers(0, 255, (100, 4, 4, 1)).astype(np.uint8), RNG.integers(0, 3, 100),
                     RNG.integers(0, 255, (20, 4, 4, 1)).astype(np.uint8), RNG.integers(0, 3, 20), ("a", "b", "c"), preprocess="image")


def leaf(x):
    return Tensor(np.array(x, np.float64), requires_grad=True)


def torchs(torch, make, steps=50, after=lambda optimizer, q: None):
    """Where PyTorch's optimizer leads from START."""
    q, points = torch.tensor(START, requires_grad=True), []
    optimizer = make([q])
    for _ in range(steps):
        optimizer.zero_grad()
        torch.sum(torch.tanh(q) * q * torch.tensor(CURVATURE)).backward()
        after(optimizer, q)
        optimizer.step()
        points.append(q.detach().numpy().copy())
    return points


@pytest.mark.parametrize(("lr", "wd", "settings"), [(0.05, 0.0, {}), (0.05, 0.01, {}),
                                                    (0.3, 0.02, dict(beta1=0.5, beta2=0.9, eps=0.1)), (0.1, 0.0, dict(beta1=0.0))])
def test_adam_is_pytorchs_adamw_with_its_decay_over_the_learning_rate(lr, wd, settings, torch):
    p = leaf(START)
    ours = trajectory(Adam([p], lr, wd, **settings), p)
    betas = settings.get("beta1", 0.9), settings.get("beta2", 0.999)
    theirs = torchs(torch, lambda q: torch.optim.AdamW(q, lr, betas, settings.get("eps", 1e-8), weight_decay=wd / lr))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_adams_decay_and_rate_follow_the_schedule():
    """Written out, with the bias correction, for a schedule that is no constant."""
    lr, wd, b1, b2 = 0.05, 0.01, 0.9, 0.999
    p = leaf(START)
    ours = trajectory(Adam([p], lr, wd, schedule=exponential(0.5, every=7)), p, 30)
    x, m, v = START.copy(), 0.0, 0.0
    for t in range(30):
        factor, g = 0.5 ** (t / 7), gradient(x)
        x = x - wd * factor * x
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        x = x - lr * factor * (m / (1 - b1 ** (t + 1))) / (np.sqrt(v / (1 - b2 ** (t + 1))) + 1e-8)
        np.testing.assert_allclose(ours[t], x, rtol=1e-12, atol=1e-14)


def test_the_first_step_of_adam_is_lr_long():
    p = leaf([3.0, -1e-3, 1e3])
    p.grad = np.array([1e-2, -5.0, 1e4])
    Adam([p], 0.1).step()
    np.testing.assert_allclose(p.data, [2.9, 0.099, 999.9], rtol=1e-5)


def test_float32_stays_float32_in_place():
    p = Tensor(START.astype(np.float32), requires_grad=True)
    array, made = p.data, Groups([Adam([p], np.float64(0.05), wd=np.float64(1e-3), schedule=lambda t: np.float64(0.5))],
                                 np.float64(0.1))
    (p * 3.0).sum().backward()
    made.step()
    assert p.data is array and p.dtype == p.grad.dtype == np.float32
    assert all(slot.dtype == np.float32 for slot in made.slots().values()) and len(made.slots()) == 2


def test_clipping_is_pytorchs(torch):
    p = leaf(START)
    ours = trajectory(Groups([SGDW([p], 0.05)], clip_norm=0.7), p)

    def clip(optimizer, q):
        norm = q.grad.norm().item()
        torch.nn.utils.clip_grad_norm_([q], 0.7 * (norm + 1e-6) / norm)  # it divides by the norm + 1e-6

    theirs = torchs(torch, lambda q: torch.optim.SGD(q, 0.05, momentum=0.9, nesterov=True), after=clip)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_norm_is_that_of_all_gradients_together_and_nothing_overflows():
    a, b = leaf([0.0, 0.0]), leaf([[0.0]])
    a.grad, b.grad = np.array([3.0, 0.0]), np.array([[4.0]])
    assert clip([a, b], 10.0) == 5.0 and a.grad[0] == 3.0
    assert clip([a, b], 1.0) == 5.0
    np.testing.assert_allclose([a.grad[0], b.grad[0, 0]], [0.6, 0.8])
    large = Tensor(np.zeros(2, np.float32), requires_grad=True)
    large.grad = np.array([3e30, 4e30], np.float32)
    assert clip([large], 1.0) == pytest.approx(5e30) and np.allclose(large.grad, [0.6, 0.8])
    for value in (0.0, np.inf, np.nan):
        large.grad = np.array([value, 1.0 if value else 0.0], np.float32)
        clip([large], 0.5)
        np.testing.assert_array_equal(large.grad, [value, 1.0 if value else 0.0])


def test_groups_step_each_as_it_would_alone_and_clip_together():
    """Two kinds, two rates; what the loss does to one does not hang on the other, so each goes its own way."""
    schedule = exponential(0.5, every=5)
    alone = []
    for make in (lambda p: SGDW([p], 0.05, 1e-3, schedule=schedule), lambda p: Adam([p], 0.2, schedule=schedule)):
        p = leaf(START)
        alone.append(trajectory(make(p), p, 12))
    a, b = leaf(START), leaf(START)
    both = Groups([SGDW([a], 0.05, 1e-3, schedule=schedule), Adam([b], 0.2, schedule=schedule)])
    for t in range(12):
        both.zero_grad()
        sum_of = (a.tanh() * a * CURVATURE).sum() + (b.tanh() * b * CURVATURE).sum()
        sum_of.backward()
        both.step()
        np.testing.assert_allclose([a.data, b.data], [alone[0][t], alone[1][t]], rtol=1e-12, atol=1e-13)
    assert both.steps == 12 and both.schedule is schedule
    both.steps = 3
    assert [each.steps for each in both.optimizers] == [3, 3]


def test_a_group_without_a_gradient_changes_nothing():
    a, b = leaf(START), leaf(START)
    a.grad = np.ones_like(START)
    both = Groups([SGD([a], 0.1), SGD([b], 0.1)], clip_norm=1.0)
    with pytest.raises(UsageError, match="Groups: parameter 1 of shape .* has no gradient"):
        both.step()
    assert np.array_equal(a.data, START) and np.array_equal(a.grad, np.ones_like(START))


# ---- in a run --------------------------------------------------------------------------------------------------------


def halves(net, schedule):
    parameters = net.parameters()
    return Groups([SGDW(parameters[:1], 0.05, 1e-3, schedule=schedule), Adam(parameters[1:], 0.01, 1e-4, schedule=schedule)],
                  clip_norm=0.5)


MAKERS = {"adam": lambda net, schedule: Adam(net.parameters(), 0.01, 1e-4, schedule=schedule), "groups": halves,
          "clipped": lambda net, schedule: Groups([SGDW(net.parameters(), 0.05, schedule=schedule)], 0.3)}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("plateau", [False, True])
def test_a_run_that_is_stopped_in_the_middle_of_an_epoch_goes_on_to_the_bit(kind, plateau, tmp_path):
    class Stop(train.Progress):
        def step(self, epoch, step, steps, loss):
            if (epoch, step) == (2, 2):
                raise KeyboardInterrupt

    def fit(path, epochs=4, resume=False, seed=0, progress=None):
        rng = np.random.default_rng(seed)
        net = models.fcn(SignedSupermask(tau=0.01), rng, (4, 4, 1), (12, 8, 3))
        schedule = Plateau(patience=1, cooldown=0) if plateau else exponential(0.9, every=3)
        train.fit(net, BLOBS, MAKERS[kind](net, schedule), epochs, rng, 32, checkpoint=path, resume=resume, progress=progress)
        return net

    whole = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", progress=Stop())
    assert checkpoint.peek(tmp_path / "cut")[0]["step"] == 2
    resumed = fit(tmp_path / "cut", resume=True, seed=9)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(whole.arrays().values(), resumed.arrays().values()))
    assert checkpoint.peek(tmp_path / "whole")[1] == checkpoint.peek(tmp_path / "cut")[1]


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path):
    def fit(make, resume=False):
        rng = np.random.default_rng(0)
        net = models.fcn(Trained(), rng, (4, 4, 1), (12, 8, 3))
        train.fit(net, BLOBS, make(net.parameters()), 1, rng, 32, checkpoint=tmp_path / "c", resume=resume)

    fit(lambda p: Adam(p, 0.01))
    for make in (lambda p: Adam(p, 0.01, beta2=0.99), lambda p: SGDW(p, 0.01), lambda p: Groups([Adam(p, 0.01)])):
        with pytest.raises(UsageError, match="is of another run: its (beta1|beta2) is "):
            fit(make, resume=True)
    fit(lambda p: Adam(p, 0.01), resume=True)


@pytest.mark.parametrize("make", [lambda net: Adam(net.parameters(), 0.01, 0.01), lambda net: Groups([SGDW(net.parameters(), 0.01, 0.01)]),
                                  lambda net: Groups([SGDW(net.parameters(), 0.01, 0.01)], 1.0)])
def test_no_unit_is_called_dead_where_the_bound_is_not_that_of_the_optimizer(make):
    """Under SGDW this net has dead units: all scores hidden and at rest. Adam may move them: nothing is left out."""
    rng = np.random.default_rng(0)
    net = models.fcn(SignedSupermask(tau=10.0), rng, (4, 4, 1), (12, 8, 3))
    assert sum(units.sum() for units in shrink.dead(net, SGDW(net.parameters(), 0.01, 0.01)).values()) > 0
    optimizer = make(net)
    assert shrink.links(net, optimizer) == [] and shrink.dead(net, optimizer) == {}
    record = train.fit(net, BLOBS, optimizer, 1, rng, 32, shrink=True)
    assert not any("dead" in layer for layer in record["epochs"][0]["layers"])


# ---- by name ---------------------------------------------------------------------------------------------------------


def net_with_norm():
    rng = np.random.default_rng(0)
    return models.MODELS["resnet20"](weights=Trained(), rng=rng, input_shape=(8, 8, 3), classes=3, norm="stem")


def test_build_leaves_decay_off_where_patterns_fit():
    net = net_with_norm()
    names = list(net.named_parameters())
    bare = [name for name in names if name.endswith((".scale", ".shift"))]
    assert bare and len(bare) < len(names)
    made = optimizers.build("adam", net, 0.01, 0.1, optim.constant, undecayed="*.scale, *.shift", clip_norm=2.0, beta1=0.8)
    decayed, rest = made.optimizers
    assert (decayed.wd, rest.wd, decayed.beta1, rest.beta1, made.clip_norm) == (0.1, 0.0, 0.8, 0.8, 2.0)
    assert [id(p) for p in rest.parameters] == [id(net.named_parameters()[name]) for name in bare]
    assert len(decayed.parameters) == len(names) - len(bare)
    plain = optimizers.build("sgdw", net, 0.01, 0.1, optim.constant, momentum=0.5)
    assert type(plain) is SGDW and plain.momentum == 0.5 and plain.parameters == net.parameters()


P = leaf(START)


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: Adam([P], 0.0), "Adam: lr is 0.0, but must be above 0"),
    (lambda: Adam([P], wd=1.0), r"wd 1.0, beta1 0.9 and beta2 0.999 must lie in \[0, 1\)"),
    (lambda: Adam([P], beta2=1.0), "beta2 1.0"),
    (lambda: Adam([P], eps=0.0), "eps 0.0 above 0"),
    (lambda: Groups([]), "Groups: no parameters to train"),
    (lambda: Groups([P]), "Groups: a Tensor is no optimizer"),
    (lambda: Groups([SGD([P], 0.1), SGD([P], 0.1)]), "parameter 1, of shape .* is parameter 0 again"),
    (lambda: Groups([SGD([P], 0.1), SGD([leaf(1)], 0.1, exponential())]), "its optimizers have several schedules"),
    (lambda: Groups([SGD([P], 0.1)], clip_norm=0.0), "clip_norm is 0.0, but must be above 0"),
    (lambda: optimizers.build("sgdw", net_with_norm(), 0.1, 0, optim.constant, undecayed="*.bias"),
     r"no parameter is called '\*.bias'; there are"),
    (lambda: recipes.Recipe("a", "", 1, 0.1, 0, optimizer="adam", optimizer_settings={"beta1": 2}), "recipe 'a': Adam: .*beta1 2.0"),
    (lambda: recipes.Recipe("a", "", 1, 0.1, 0, optimizer="adam", momentum=0.5), "momentum 0.5 is of optimizer 'sgdw'"),
    (lambda: recipes.Recipe("a", "", 1, 0.1, 0, optimizer="adan"), "unknown optimizer 'adan'.*adam"),
    (lambda: recipes.Recipe("a", "", 1, 0.1, 0, optimizer_settings={"clip_norm": -1}), "clip_norm is -1.0"),
    (lambda: recipes.Recipe("a", "", 1, 0.1, 0, optimizer_settings={"beta1": 0.5}), "optimizer 'sgdw': unknown key 'beta1'"),
])
def test_mistakes(call, sentence):
    with pytest.raises(UsageError, match=sentence):
        call()
