"""SGD, SGDW and the schedules, against trajectories written out and against PyTorch."""

import math

import numpy as np
import pytest

from minimask import (
    Tensor,
    UsageError,
    ops,
    optim,
)
from minimask.optim import SGD, SGDW, Plateau, constant, exponential

CURVATURE = np.array([[1.0, 0.5, 3.0], [0.1, 2.0, 0.7]])
START = np.array([[1.0, -2.0, 0.3], [0.0, 4.0, -1.0]])


def loss(p):
    """A function that is not quadratic, so that a gradient taken at the wrong place shows."""
    return ops.sum(ops.tanh(p) * p * CURVATURE)


def gradient(x):
    return CURVATURE * (np.tanh(x) + x / np.cosh(x) ** 2)


def trajectory(optimizer, p, steps=50):
    points = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss(p).backward()
        optimizer.step()
        points.append(p.data.copy())
    return points


def test_sgdw_follows_method_section_4_for_50_steps():
    lr, wd, mu = 0.05, 5e-3, 0.9
    p = Tensor(START.copy(), requires_grad=True)
    ours = trajectory(SGDW([p], lr=lr, wd=wd, momentum=mu, schedule=exponential(0.9, every=7)), p)
    m, v = START.copy(), np.zeros_like(START)
    for t in range(50):
        factor = 0.9 ** (t / 7)
        g = gradient(m)  # taken before the decay
        m = m - wd * factor * m  # not multiplied by the learning rate
        v = mu * v - lr * factor * g
        m = m + mu * v - lr * factor * g
        np.testing.assert_allclose(ours[t], m, rtol=1e-12, atol=1e-14, err_msg=f"step {t}")


def test_sgdw_without_decay_equals_torch_nesterov_at_constant_rate(torch):
    """Then the Keras and the PyTorch form of the velocity differ by a factor only."""
    p = Tensor(START.copy(), requires_grad=True)
    ours = trajectory(SGDW([p], lr=0.05, wd=0.0, momentum=0.9), p)
    q = torch.tensor(START, requires_grad=True)
    theirs = torch.optim.SGD([q], lr=0.05, momentum=0.9, nesterov=True)
    for t in range(50):
        theirs.zero_grad()
        torch.sum(torch.tanh(q) * q * torch.tensor(CURVATURE)).backward()
        theirs.step()
        np.testing.assert_allclose(ours[t], q.detach().numpy(), rtol=1e-11, atol=1e-13, err_msg=f"step {t}")


def test_plain_sgd_equals_torch(torch):
    p = Tensor(START.copy(), requires_grad=True)
    ours = trajectory(SGD([p], lr=0.05), p)
    q = torch.tensor(START, requires_grad=True)
    theirs = torch.optim.SGD([q], lr=0.05)
    for t in range(50):
        theirs.zero_grad()
        torch.sum(torch.tanh(q) * q * torch.tensor(CURVATURE)).backward()
        theirs.step()
        np.testing.assert_allclose(ours[t], q.detach().numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("optimizer", [SGD, SGDW])
def test_float32_stays_float32(optimizer):
    p = Tensor(START.astype(np.float32), requires_grad=True)
    made = optimizer([p], lr=np.float64(0.05), **({"wd": np.float64(1e-3)} if optimizer is SGDW else {}),
                     schedule=lambda t: np.float64(0.5))
    (p * 1.0).sum().backward()
    made.step()
    assert p.dtype == np.float32 and all(v.dtype == np.float32 for v in getattr(made, "velocity", []))


def test_updates_are_in_place_and_seen_by_the_tape():
    p = Tensor(START.copy(), requires_grad=True)
    array, stale = p.data, (p * p).sum()
    p.grad = np.ones_like(START)
    SGDW([p], lr=0.1).step()
    assert p.data is array
    with pytest.raises(RuntimeError, match="written to"):
        stale.backward()


@pytest.mark.parametrize("optimizer", [SGD, SGDW])
def test_a_leaf_given_twice_or_read_only_is_named(optimizer):
    a, b, fixed = (Tensor(np.ones(n), requires_grad=True) for n in (2, 3, 4))
    with pytest.raises(UsageError, match=rf"{optimizer.__name__}: parameter 2, of shape \(2,\), is parameter 0 again"):
        optimizer([a, b, a], lr=0.1)
    fixed.data.flags.writeable = False
    with pytest.raises(UsageError, match=rf"{optimizer.__name__}: parameter 1, of shape \(4,\), is a read-only array.*copy"):
        optimizer([a, fixed], lr=0.1)
    optimizer([a, b, Tensor(np.ones(2), requires_grad=True)], lr=0.1)  # equal numbers are no twin


def test_constant_and_exponential():
    assert constant(0) == constant(10**6) == 1.0
    schedule = exponential(0.9, every=40)
    assert [schedule(t) for t in (0, 40, 80)] == pytest.approx([1.0, 0.9, 0.81])
    assert schedule(20) == pytest.approx(math.sqrt(0.9))  # smoothly, not in stairs


def test_plateau_cuts_after_patience_and_rests_in_cooldown():
    """Losses chosen so that every rule decides once: patience 3, cooldown 2, lower means by 1e-4, 2 cuts at most."""
    plateau = Plateau(factor=0.2, patience=3, cooldown=2, min_delta=1e-4, max_cuts=2)
    story = [(1.0, 1.0), (0.9, 1.0),  # falls
             (0.89995, 1.0), (0.9, 1.0),  # by less than 1e-4: two epochs waited
             (0.8, 1.0),  # falls again: the count starts anew
             (0.8, 1.0), (0.8, 1.0), (0.8, 0.2),  # three epochs without: cut
             (0.8, 0.2),  # cooldown
             (0.8, 0.2), (0.8, 0.2), (0.8, 0.04)]  # the cooldown ends with this epoch, which counts; then two more
    for i, (loss_value, expected) in enumerate(story):
        plateau.observe(loss_value)
        assert plateau(i) == pytest.approx(expected), i
    assert plateau.finished and not Plateau().finished


def test_plateau_improvement_in_cooldown_is_remembered():
    plateau = Plateau(factor=0.5, patience=1, cooldown=3)
    for loss_value in (1.0, 1.0, 0.5):
        plateau.observe(loss_value)
    assert plateau.cuts == 1 and plateau.best == 0.5


P = [Tensor(START.copy(), requires_grad=True)]


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: SGDW([], lr=0.1), "SGDW: no parameters to train"),
    (lambda: SGD(P[0], lr=0.1), "SGD: no parameters to train; give net.parameters"),
    (lambda: SGD({"a": P[0]}, lr=0.1), "SGD: parameter 0 is 'a', but must be a leaf Tensor"),
    (lambda: SGD([P[0] * 2.0], lr=0.1), "SGD: parameter 0 is made by an op, but must be a leaf Tensor"),
    (lambda: SGD([Tensor(START)], lr=0.1), "parameter 0 is without a gradient, but must be a leaf Tensor with requires_grad=True"),
    (lambda: SGD(P, lr=0.1, schedule=0.9), "SGD: schedule is 0.9, but must be a function of the step"),
    (lambda: SGDW(P, lr=0.0), "lr is 0.0, but must be above 0"),
    (lambda: SGD(P, lr=float("inf")), "lr is inf"),
    (lambda: SGDW(P, lr=0.1, wd=1.0), r"wd 1.0 and momentum 0.9 must lie in \[0, 1\)"),
    (lambda: SGDW(P, lr=0.1, momentum=-0.1), "momentum -0.1"),
    (lambda: SGDW(P, lr=0.1).step(), r"parameter 0 of shape \(2, 3\) has no gradient; call loss.backward\(\)"),
    (lambda: exponential(1.5, 10), "exponential: rate 1.5"),
    (lambda: exponential(0.9, 0), "every 0 above 0"),
    (lambda: Plateau(factor=1.0), "Plateau: factor 1.0"),
])
def test_mistakes(call, sentence):
    with pytest.raises(UsageError, match=sentence):
        call()


def test_sgd_takes_its_schedule():
    p = Tensor(np.ones(2), requires_grad=True)
    p.grad = np.ones(2)
    optim.SGD([p], lr=1.0, schedule=lambda t: 0.5).step()
    np.testing.assert_array_equal(p.data, 0.5)


def test_step_leaves_the_gradient():
    for kind in (optim.SGD, optim.SGDW):
        p = Tensor(np.ones(2), requires_grad=True)
        p.grad = np.ones(2)
        kind([p], lr=0.1).step()
        np.testing.assert_array_equal(p.grad, 1)


def test_plateau_min_delta_decides():
    q = optim.Plateau(factor=0.5, patience=2, cooldown=0, min_delta=0.1)
    for loss in (1.0, 0.95, 0.92):
        q.observe(loss)
    assert q.cuts == 1
    d = optim.Plateau()
    assert (d.patience, d.cooldown, d.min_delta, d.max_cuts, d.factor) == (15, 10, 1e-4, 5, 0.2)
