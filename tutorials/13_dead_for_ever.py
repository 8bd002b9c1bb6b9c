# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Dead for ever: units that can never come back
#
# **You will build** a test that says of a unit, in the middle of training: it will never come back. Not probably:
# never. Then you train on without it, and nothing changes.
#
# **You will learn**
# - why the scores around some units get a gradient of exactly 0, and why one dead side is not enough;
# - how far momentum can still carry a score when its gradient is gone, in five lines of proof;
# - to test a theorem like a prediction: say which units, train on, count;
# - what happens in `minimask train`, which leaves such units out while it trains.
#
# **You need to know** lessons 08 (the method and its optimizer) and 09 (dead units of a trained net).
#
# **It takes** about 40 minutes to read. The computer needs less than 15 seconds, some more if it is busy.

# %%
import copy

import numpy as np

from minimask import Tensor, data, models, ops, optim, plot, shrink, train
from minimask.mask import SignedSupermask

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. A net in the middle of its training
#
# The net of lesson 08, under more decay, so that units die soon. We keep what `train.fit` needs to go on: net,
# optimizer and generator. Then we look at the masks on both sides of each of the 300 hidden units of the first layer.

# %%
TAU, LR, WD, MU = 0.001, 0.05, 0.02, 0.9
digits = data.digits()
STEPS = 12  # an epoch: 11 batches of 128, and a short one


def begin(seed=0):
    """A net, its optimizer and the generator."""
    rng = np.random.default_rng(seed)
    net = models.fcn(SignedSupermask(tau=TAU), rng, digits.input_shape)
    sgdw = optim.SGDW(net.parameters(), LR, WD, MU, optim.exponential(0.9, every=4 * STEPS))
    return net, sgdw, rng


def sides(net):
    """Of the first layer's units: whether any weight into them is left, and whether any out of them is."""
    masks = net.masks()
    return masks["dense1"].any(axis=0), masks["dense2"].any(axis=1)


net, sgdw, rng = begin()
train.fit(net, digits, sgdw, 40, rng)
fed, heard = sides(net)
print(f"after 40 epochs, of 300 units: {np.sum(fed & heard)} have weights on both sides, {np.sum(fed & ~heard)} only "
      f"into them, {np.sum(~fed & heard)} only out of them, {np.sum(~fed & ~heard)} none at all")

# %% [markdown]
# ## 2. No gradient, to the last bit
#
# Take one batch and look at the gradients of the scores on both sides of the units. Predict before you run it: which of
# the four kinds of units get a gradient of exactly 0, and on which side?

# %%
images, labels = data.standardise(digits.train_images[:128]), digits.train_labels[:128]
loss = ops.cross_entropy(net(images, training=True), labels)
sgdw.zero_grad()
loss.backward()
into, out = (np.abs(net.layers[name].weight.scores.grad) for name in ("dense1", "dense2"))
largest = {kind: (into[:, who].max(), out[who].max()) for kind, who in
           (("both", fed & heard), ("only into", fed & ~heard), ("only out of", ~fed & heard), ("none", ~fed & ~heard))
           if who.any()}
for kind, (before, behind) in largest.items():
    print(f"weights left: {kind:12} largest gradient of a score into such a unit {before:.1e}, out of it {behind:.1e}")

# %% [markdown]
# A unit into which nothing leads gives 0 for every image: it has no bias, and ELU(0) = 0. The gradient of a score out
# of it is (its output) times (what arrives from behind), so 0. A unit out of which nothing leads has no say in the
# loss, so nothing arrives at it from behind, and the gradient of a score into it is (the input) times 0. These zeros
# are exact, in floats, too: a sum of products with 0 is 0 in any order.
#
# But see the rows with one dead side. A unit that is not fed and still heard gets gradients on its *inputs*: the loss
# says how it should speak, although it is silent. These gradients may bring an input weight back, and the unit with it.
# Only where both sides are hidden both gradients are 0. As long as no mask next to it changes, that is.
#
# ## 3. How far momentum still goes
#
# Can a mask next to such a unit change without any gradient? SGDW goes on for it: with $g = 0$, and with
# $0 \le k \le 1$ for $1 - wd_t$ in whatever step,
#
# $$v \leftarrow \mu v, \qquad m \leftarrow k\,m + \mu v .$$
#
# So momentum may still push a score over the threshold. But not far. Here is the proof:
#
# 1. After $j$ steps the velocity is $\mu^j v$, so step $j = 1, 2, \dots$ adds $\mu \cdot \mu^j v$ to the score.
# 2. Decay multiplies what is there by numbers between 0 and 1: it makes no part of the sum larger.
# 3. So $|m_T| \le |m| + \sum_{j \ge 1} \mu^{1 + j} |v| = |m| + \frac{\mu^2}{1 - \mu} |v|$ for every $T$: the **bound**.
# 4. If that is at most $\tau$ for *every* score into a unit and *every* score out of it, no mask next to it changes in
#    the next step, so its gradients stay 0, so the same holds for the step after: by induction, for ever.
# 5. For $\mu = 0.9$ the factor is $0.81 / 0.1 = 8.1$.
#
# That is all. Let us first see the bound at work on single scores: pairs $(m, v)$ on it, pushed without decay (the
# worst that can be) and with ours.

# %%
FACTOR = MU**2 / (1 - MU)


def without_gradient(m, v, wd, steps):
    """The course of scores that get no gradient: (steps + 1, n)."""
    course = [m]
    for _ in range(steps):
        v = MU * v
        m = (1 - wd) * m + MU * v
        course.append(m)
    return np.stack(course)


parts = np.linspace(0, 1, 6)  # how much of the bound is the score's own; the rest is the velocity's
on_the_bound = [without_gradient(parts * TAU, (1 - parts) * TAU / FACTOR, wd, 80) for wd in (0.0, WD)]
beyond = without_gradient(parts * TAU, 1.2 * (1 - parts) * TAU / FACTOR, 0.0, 80)
print(f"largest |m| / tau on the bound: {on_the_bound[0].max() / TAU:.6f} without decay, "
      f"{on_the_bound[1][-1].max() / TAU:.2f} with ours, after 80 steps; with a fifth more velocity: "
      f"{beyond.max() / TAU:.3f}")

# %% jupyter={"source_hidden": true}
@plot.chart(8, 3.4, 2, x="step without gradient", y=["score / tau", ""], share=True, legend="",
            title=["on the bound, no decay", "on the bound, with decay"])
def draw_bound(*panels):
    """Two panels of scores over tau, step by step without a gradient, and a dashed line at 1: without decay they creep
    up to it, with decay most rise and fall far below.
    """
    for ax, course in zip(panels, on_the_bound):
        ax.axhline(1, color=ORANGE, linestyle="--")
        ax.plot(course / TAU, color=BLUE)


plot.show("13_bound", draw_bound)

# %% [markdown]
# Without decay every score creeps up to the threshold and never over it: the bound is as small as it can be. With decay
# most of them never come near. (What is *at* tau is hidden: the mask asks for $|m| > \tau$.)
#
# ## 4. Predict, train on, count
#
# Now the prediction. At the end of some epoch we call a unit **dead for ever** if the bound holds on both sides. Then
# the *whole* net trains on, and after each epoch we look whether a called unit has a weight again. Two seeds, two
# epochs of the call.

# %%
def reach(scores, velocity):
    """The bound: how far |m| may get without a gradient."""
    return np.abs(scores) + FACTOR * np.abs(velocity)


def called(net, sgdw):
    """Which of the first layer's units the bound calls dead for ever: (300,) booleans."""
    m1, m2 = (net.layers[name].weight.scores.data for name in ("dense1", "dense2"))
    return (reach(m1, sgdw.velocity[0]) <= TAU).all(axis=0) & (reach(m2, sgdw.velocity[1]) <= TAU).all(axis=1)


def back_again(net, sgdw, rng, units, epochs):
    """Trains on, and says which of these units had a weight again after some epoch."""
    back = np.zeros(300, bool)

    def look(record):
        fed, heard = sides(net)
        back[units & (fed | heard)] = True

    train.fit(net, digits, sgdw, epochs, rng, on_epoch=look)
    return int(back.sum())


results = []
for epoch, seed in ((40, 1), (45, 2)):
    net, sgdw, rng = begin(seed)
    train.fit(net, digits, sgdw, epoch, rng)
    units = called(net, sgdw)
    results.append((int(units.sum()), back_again(net, sgdw, rng, units, 70 - epoch)))
    print(f"seed {seed}: {results[-1][0]} units called after epoch {epoch}, {results[-1][1]} came back by epoch 70")

# %% [markdown]
# Not one came back. One counterexample would have been enough to refute the proof, or the program.
#
# Is it worth the trouble to ask for both sides? In the trainings above units with one dead side hardly ever come back,
# either: what remains of them is about to go. But "hardly ever" is not never. Let us silence fifty units in the midst
# of their lives, by hand: all scores into them become 0, velocities too. Once so, and once the scores out of them, too.

# %%
def silenced(both):
    """How many of fifty units have weights on both sides again, within 10 epochs after they were silenced."""
    net, sgdw, rng = begin()
    train.fit(net, digits, sgdw, 10, rng)
    for i, (name, index) in enumerate((("dense1", np.s_[:, :50]), ("dense2", np.s_[:50]))[:2 if both else 1]):
        net.layers[name].weight.scores.data[index] = 0
        sgdw.velocity[i][index] = 0
    return back_again(net, sgdw, rng, np.arange(300) < 50, 10) if both else _fed_again(net, sgdw, rng)


def _fed_again(net, sgdw, rng):
    train.fit(net, digits, sgdw, 10, rng)
    return int(sides(net)[0][:50].sum())


one, two = silenced(False), silenced(True)
print(f"silenced on the side of their inputs: {one} of 50 units have inputs again; on both sides: {two}")

# %% [markdown]
# Who is still heard is told how to speak, and learns it again. Who is neither fed nor heard is gone.
#
# ## 5. Without them
#
# A unit that can never matter again need not be computed. Take its column out of the first matrix and its row out of
# the second; frozen weights, scores and velocities alike. The smaller net gives the same logits and gets the same
# gradients.

# %%
whole, by, rng = begin()
train.fit(whole, digits, by, 60, rng)
alive = np.flatnonzero(~called(whole, by))
small = models.fcn(SignedSupermask(tau=TAU), np.random.default_rng(0), digits.input_shape, units=(len(alive), 100, 10))
for name, index in (("dense1", np.s_[:, alive]), ("dense2", np.s_[alive]), ("dense3", np.s_[:])):
    source, its = whole.layers[name].weight, small.layers[name].weight
    its.frozen, its.scores = source.frozen[index].copy(), Tensor(source.scores.data[index].copy(), requires_grad=True)

by.zero_grad()  # of training's last step
losses = [ops.cross_entropy(each(images, training=True), labels) for each in (whole, small)]
for loss in losses:
    loss.backward()
gradients = [each.layers["dense1"].weight.scores.grad for each in (whole, small)]
apart = np.abs(gradients[0][:, alive] - gradients[1]).max() / np.abs(gradients[0]).max()
work = [64 * units + units * 100 + 100 * 10 for units in (300, len(alive))]
print(f"{len(alive)} of 300 units: losses {losses[0].item():.6f} and {losses[1].item():.6f}, gradients apart by "
      f"{apart:.0e} of the largest, {work[1] / work[0]:.0%} of the multiplications")

# %% [markdown]
# The last digits differ, since sums of fewer terms round otherwise. Nothing else does.
#
# This is what `minimask train` does at the end of every epoch (`minimask/shrink.py`); from Python it is
# `train.fit(..., shrink=True)`. What is left out goes on decaying, and it need not be stepped for that: each step
# without gradient is a matrix, the product of the matrices of an epoch is one matrix,
#
# $$\begin{pmatrix} m \\ v \end{pmatrix} \leftarrow \begin{pmatrix} k & \mu^2 \\ 0 & \mu \end{pmatrix}
# \begin{pmatrix} m \\ v \end{pmatrix},$$
#
# and at the end the whole net is back, with every score where the update would have it.

# %%
def trained(shrinks):
    net, sgdw, rng = begin()
    record = train.fit(net, digits, sgdw, 60, rng, shrink=shrinks)
    return net, record["epochs"]


(plain, entries), (shrunk, others) = trained(False), trained(True)
ends = [(each[-1]["test_accuracy"], each[-1]["weights_left"]) for each in (entries, others)]
dead = [entry["layers"][0]["dead"] for entry in others]
masks = [each.masks()["dense1"] for each in (plain, shrunk)]
print(f"whole:  {ends[0][0]:.2%} with {ends[0][1]:.2%} of the weights left")
print(f"shrunk: {ends[1][0]:.2%} with {ends[1][1]:.2%} left; dead for ever after epochs 30, 40, 50, 60: {dead[29::10]}")
print(f"{np.sum(masks[0] != masks[1])} of {masks[0].size:,} masks of the first layer differ")

# %% jupyter={"source_hidden": true}
@plot.chart(6.5, 3.4, x="epoch", y="units of the first layer", legend="center left")
def draw_dead(ax):
    """Units of the first layer by epoch: those dead for ever rise from none, those in the net fall from 300 as much."""
    ax.plot(range(1, 61), dead, color=ORANGE, label="dead for ever")
    ax.plot(range(1, 61), 300 - np.array(dead), color=BLUE, label="in the net")


plot.show("13_dead", draw_dead)

# %% [markdown]
# ## 6. Where the proof does not hold
#
# Every step of the proof used something. Take it away, and ask `shrink.links` what is left:
#
# - a **bias**, or a batch norm with a shift: the silent unit is not silent, and the gradients behind it are not 0;
# - a **shortcut** around the layer: the sum is not 0 where one part is;
# - **another optimizer**: the bound is about SGDW. Adam divides by a root of past gradients, so its bound is another;
# - **another mask**: edge-popup keeps the k largest scores, so a score can come back because another one fell;
# - a **layer that is used twice**: its scores get gradients from the other place as well.
#
# The package leaves nothing out next to any of these.

# %%
net, sgdw, _ = begin()
links = shrink.links(net, sgdw)
print("units that may be left out lie between", " and between ".join(f"{made} and {read}" for made, read in links))
biased = copy.copy(net)
biased.layers = {**net.layers, "elu1": type("Shifted", (type(net.layers["elu1"]),), {})()}  # ELU, or something else
print("behind a layer of one's own:", shrink.links(biased, sgdw))
print("under plain gradient descent:", shrink.links(net, optim.SGD(net.parameters(), LR)))

# %% [markdown]
# ## 7. The claims of this lesson

# %%
assert largest["none"] == (0, 0) if "none" in largest else True, "no gradient reaches a unit that is dead on both sides"
assert largest["only out of"][0] > 0 and largest["only out of"][1] == 0, "who is heard and not fed is told how to speak"
assert on_the_bound[0].max() <= TAU * (1 + 1e-12) and on_the_bound[0][-1].min() > 0.99 * TAU, "the bound holds, just so"
assert beyond.max() > TAU, "and a little more velocity breaks it"
assert all(count > 20 and back == 0 for count, back in results), "of all that were called none came back"
assert one > 20 and two == 0, "one side is not enough"
assert abs(losses[0].item() - losses[1].item()) < 1e-5 and apart < 1e-5, "the smaller net is the same net"
assert len(alive) < 200 and dead == sorted(dead) and dead[-1] == 300 - len(alive), "dead for ever means for ever"
assert abs(ends[0][0] - ends[1][0]) < 0.02 and abs(ends[0][1] - ends[1][1]) < 0.005
assert [made for made, _ in links] == ["dense1", "dense2"] and shrink.links(biased, sgdw) == links[1:]
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson13.py`; `pytest -m lesson13` marks them, `pytest -m lesson13 -k task1` one.
#
# 1. **`reach(m, v, mu)`**: the bound, for arrays.
# 2. **`dead_for_ever(scores, velocities, tau, mu)`**: which units of every hidden layer will never come back.
# 3. **`after(m, v, decays, mu)`**: where scores and velocities are after steps without a gradient, each with its own
#    decay: the closed form of section 5.
#
# To think about, without marking: take two hidden units in consecutive layers, with a weight left between them, and
# none anywhere else around them. Is either dead for ever by our test? Can either come back? (So the test is not the
# weakest that is right. What would the weakest be?)
#
# ## Further reading
#
# Mitchell Wortsman and others, *Discovering Neural Wirings*, 2019, [arXiv:1906.00586](https://arxiv.org/abs/1906.00586):
# weights that may come back at any time, and how that is used.
#
# This was the last lesson. `minimask train fcn --data DIR` trains the paper's net on MNIST, and writes for every epoch
# how many of its units are dead for ever.
