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
# # The signed supermask on digits: watch weights go
#
# **You will build** the whole method by hand, without a layer, an optimizer or a training loop of the package: three
# frozen matrices, three matrices of scores, and a dozen lines that train them. Bit for bit it will be the package's.
#
# **You will learn**
# - what one training step of a signed supermask does, line by line;
# - how single scores live: who stays, who goes, who comes back, who changes sides;
# - that one formula from lesson 02 predicts when the bulk of the weights disappears;
# - what weight decay buys and what it costs, in accuracy against weights left.
#
# **You need to know** lessons 00 (the method), 02 (straight through, and decay) and 06 (ELUS).
#
# **It takes** about 45 minutes to read. The computer needs less than 15 seconds, some more if it is busy.

# %%
import math

import numpy as np

import minimask
from minimask import Tensor, data, init, models, ops, optim, plot, train
from minimask.mask import SignedSupermask

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. All that the method is made of
#
# The net is that of lesson 00: 64 pixels, 300 units, 100 units, 10 classes, ELU in between, no biases. For each of its
# three layers we draw a matrix $W$ of weights and a matrix $m$ of scores.
#
# - $W$: signed constants, ELUS: $+c$ or $-c$ with $c^2 = 3/n_\text{in}$ (lesson 06).
# - $m$: uniform on $[-b, b]$ with $b^2 = 6/(n_\text{in} + n_\text{out})$, Xavier. Half of the scores begin positive.
#
# $W$ is an ordinary array, and nobody will ever write to it. $m$ is a Tensor that wants a gradient. Beside each $m$
# lies a velocity $v$ for the momentum. One generator draws everything, weights and scores first.

# %%
SHAPES = [(64, 300), (300, 100), (100, 10)]
TAU, LR, WD, MU = 0.01, 0.05, 0.003, 0.9
EPOCHS, BATCH = 150, 128
digits = data.digits()
STEPS = math.ceil(len(digits.train_images) / BATCH)  # an epoch: 11 batches of 128, and a short one


def begin():
    """W, M and V of the three layers, and the generator, which goes on where they end."""
    rng, W, M = np.random.default_rng(0), [], []
    for shape in SHAPES:
        W.append(init.draw(shape, rng, "elus", "signed_constant"))
        M.append(Tensor(init.draw(shape, rng, "xavier", "uniform"), requires_grad=True))
    return W, M, [np.zeros_like(m.data) for m in M], rng


W, M, _, _ = begin()
W_before, start = [w.copy() for w in W], [m.data.copy() for m in M]
for w, m in zip(W, M):
    print(f"{w.shape!s:10} weights {np.unique(w)}, scores from {m.data.min():+.3f} to {m.data.max():+.3f}, "
          f"{np.mean(np.abs(m.data) > TAU):.1%} of them outside of [-tau, tau]")

# %% [markdown]
# ## 2. Forwards
#
# In each layer the scores become a mask, the mask meets the weights, and the layer computes with the product:
#
# $$s = \operatorname{sign}(m)\,[\,|m| > \tau\,] , \qquad z = x\,(W \cdot s) , \qquad x \leftarrow \text{ELU}(z) .$$
#
# `ops.keep_hide_invert` is the step with the declared gradient of lesson 02, $\partial L/\partial m := \partial
# L/\partial s$. Everything else is an ordinary op, and the engine does the rest: from $\partial L/\partial(W s)$ it
# gets $\partial L/\partial s = \partial L/\partial(W s) \cdot W$, for hidden entries, too.

# %%
def forward(images, scores):
    x = Tensor(data.standardise(images).reshape(len(images), -1))  # (n, 64)
    for layer, (w, m) in enumerate(zip(W, scores)):
        s = ops.keep_hide_invert(m, TAU)  # s = sign(m) where |m| > tau, else 0
        z = x @ (w * s)  # z = x (W s)
        x = ops.elu(z) if layer < 2 else z
    return x  # (n, 10) logits


# %% [markdown]
# ## 3. One step
#
# With $g$ the gradient of a score and a factor $f_t$ that falls by 0.9 every 15 epochs, for both rates:
#
# $$m \leftarrow (1 - f_t\, \mathrm{wd})\, m - f_t\, \mathrm{lr}\; g ,\qquad
# v \leftarrow \mu v - f_t\, \mathrm{lr}\; g ,\qquad m \leftarrow m + \mu v .$$
#
# This is SGD with Nesterov momentum and *decoupled* decay. Three details are easily lost when a method moves from one
# library to another, and each changes the result: the decay is not multiplied by the learning rate; it does not enter
# the velocity; and the learning rate is inside the velocity.

# %%
def step(images, labels, t, M, V):
    loss = ops.cross_entropy(forward(images, M), labels)
    for m in M:
        m.grad = None
    loss.backward()
    f = 0.9 ** (t / (15 * STEPS))
    for m, v in zip(M, V):
        change = m.grad * (LR * f)  # lr_t g
        scores = m.data.copy()
        scores *= 1 - WD * f  # m <- (1 - wd_t) m
        scores -= change  # m <- m - lr_t g
        v[:] = v * MU - change  # v <- mu v - lr_t g
        scores += v * MU  # m <- m + mu v
        m.data = scores


# %% [markdown]
# ## 4. Training
#
# An epoch goes through all images once, in a fresh order. After each we photograph the scores.

# %%
def accuracy(scores):
    with minimask.no_grad():
        return float(np.mean(forward(digits.test_images, scores).data.argmax(axis=1) == digits.test_labels))


_, trained, velocities, batches = begin()  # afresh: run this cell twice, and it ends the same
photographs, accuracies, t = [start], [accuracy(trained)], 0
for _ in range(EPOCHS):
    order = batches.permutation(len(digits.train_images))
    for first in range(0, len(order), BATCH):
        chosen = order[first:first + BATCH]
        step(digits.train_images[chosen], digits.train_labels[chosen], t, trained, velocities)
        t += 1
    photographs.append([m.data.copy() for m in trained])
    accuracies.append(accuracy(trained))


def signs(m):
    """The mask of an array of scores: +1 keep, 0 hide, -1 invert."""
    return (np.sign(m) * (np.abs(m) > TAU)).astype(int)


masks = [[signs(m) for m in photograph] for photograph in photographs]  # [epoch][layer]
sizes = np.array([m.size for m in start])
left = np.array([[np.mean(s != 0) for s in each] for each in masks])  # (epochs + 1, layers)
total = left @ sizes / sizes.sum()  # (epochs + 1,)
print("epoch  held-out accuracy  weights left: all   layer 1  layer 2  layer 3")
for epoch in (0, 1, 5, 20, 50, 75, 100, 150):
    print(f"{epoch:5}  {accuracies[epoch]:17.1%}  {total[epoch]:17.1%}"
          + "".join(f"{share:9.1%}" for share in left[epoch]))

# %% [markdown]
# Is that really the method, and not just something like it? The package's `fit` on the package's net, from the same
# seed, must give the same scores. Not nearly: the same bits. (We compare the first ten epochs.)

# %%
rng = np.random.default_rng(0)
net = models.fcn(SignedSupermask(tau=TAU), rng, digits.input_shape)
sgdw = optim.SGDW(net.parameters(), LR, WD, MU, optim.exponential(0.9, every=15 * STEPS))
record = train.fit(net, digits, sgdw, 10, rng, BATCH)
same = [np.array_equal(theirs.data, mine) for theirs, mine in zip(net.parameters(), photographs[10])]
print("after ten epochs, scores equal to the package's bit by bit:", same)

# %% [markdown]
# One more step of that net, op by op, is a page: what sections 2 and 3 do by hand stands there with its numbers. Pick a
# score that flips, and work out its new value with the lines of `step`.

# %%
plot.step(net, data.standardise(digits.train_images[:BATCH]), digits.train_labels[:BATCH], sgdw,
          title="Lesson 08: one more step, after ten epochs", classes=digits.classes).show("08_page")

# %% [markdown]
# ## 5. When do they go?
#
# The table shows a long quiet time, and then the bulk of the weights leaves. Lesson 02 has a formula for a score that
# no gradient holds. Its distance from 0 shrinks by $1 - \mathrm{wd}_t$ in each step, so after a while it is
#
# $$|m_t| = |m_0|\, e^{-D_t}, \qquad D_t = \sum_{r < t} \mathrm{wd}_r ,$$
#
# and it is hidden when $|m_0| \le \tau e^{D_t}$. The first scores are uniform on $[-b, b]$. So if *no* score were held
# by a gradient, the share of weights left would be
#
# $$1 - \frac{\tau}{b}\, e^{D_t} , \qquad \text{and 0 from } D_t = \ln(b/\tau) \text{ on.}$$

# %%
D = np.concatenate([[0.0], np.cumsum(WD * 0.9 ** (np.arange(EPOCHS * STEPS) / (15 * STEPS)))])[::STEPS]  # per epoch
bounds = [math.sqrt(6 / sum(shape)) for shape in SHAPES]
idle = np.array([np.clip(1 - TAU / b * np.exp(D), 0, 1) for b in bounds]).T  # (epochs + 1, layers)
for layer in range(3):
    gap = np.abs(left[:, layer] - idle[:, layer])
    print(f"layer {layer + 1}: measured and formula differ by at most {gap[:61].max():.1%} in the first 60 epochs; "
          f"at the end {left[-1, layer]:.1%} are left, the formula says {idle[-1, layer]:.1%}")

# %% jupyter={"source_hidden": true}
@plot.chart(8, 5.4, x="epoch", y="weights left, %", legend="outside lower center", ncols=2, xlim=(0, EPOCHS),
            ylim=(-3, 100))
def draw_left(ax):
    """Weights left by epoch, in three layers: falling lines, measured, and markers of the formula for idle scores."""
    for layer, (colour, style) in enumerate(((BLUE, "-"), (ORANGE, "--"), (GREY, "-."))):
        ax.plot(100 * left[:, layer], color=colour, linestyle=style, linewidth=2.5,
                label=f"layer {layer + 1}, {sizes[layer]:,} weights: measured")
    for layer, marker in enumerate("osD"):
        ax.plot(np.arange(0, EPOCHS + 1, 10), 100 * idle[::10, layer], marker, color="black", markersize=4.5,
                fillstyle="none", label=f"layer {layer + 1}: formula for idle scores")


plot.show("08_left", draw_left)

# %% [markdown]
# In the two large layers the measured curve lies on the formula for most of the way. In other words: **nearly all
# scores are idle**. The data does not hold them, and decay takes them down as if nobody were training. What the formula
# does not know are the few that are held, and they are what remains when the rest is gone. In the small last layer most
# scores are held from the beginning.
#
# ## 6. Four lives
#
# Let us look at single scores of the first layer. We sort them by their course:
#
# - **stayed**: in use at the end of every epoch, with one sign;
# - **went**: hidden at the end;
# - **came back**: in use at the end, with its first sign, but hidden for five epochs or more on the way;
# - **turned**: in use at the start and at the end, with opposite signs.

# %%
course = np.array([each[0] for each in masks])  # (epochs + 1, 64, 300)
first, last = course[0], course[-1]
hidden_for = (course == 0).sum(axis=0)
lives = {
    "stayed": (course == first).all(axis=0) & (first != 0),
    "went": last == 0,
    "came back": (last != 0) & (last == first) & (hidden_for >= 5),
    "turned": (last != 0) & (first != 0) & (last != first),
}
for name, who in lives.items():
    print(f"{name:10} {who.sum():6,} of {first.size:,}")
paths = np.array([photograph[0] for photograph in photographs])  # the scores: (epochs + 1, 64, 300)

# %% jupyter={"source_hidden": true}
@plot.chart(9.5, 5.4, (2, 2), x="epoch", y="score m, log scale outside", grid="", share=True, xlim=(0, EPOCHS),
            title=[f"{name}: {who.sum():,} scores" for name, who in lives.items()])
def draw_lives(*panels):
    """Four panels of scores by epoch: those that stayed, went into the hidden band, came back from it, and changed
    their side.
    """
    chance, ticks = np.random.default_rng(4), (-0.1, -0.03, -TAU, 0, TAU, 0.03, 0.1)
    for ax, who in zip(panels, lives.values()):
        ax.axhspan(-TAU, TAU, color="#dcdcd4")
        for (i, j), style in zip(chance.permutation(np.argwhere(who))[:4], ("-", "--", "-.", ":")):
            ax.plot(paths[:, i, j], color={1: BLUE, 0: GREY, -1: ORANGE}[last[i, j]], linestyle=style, linewidth=2)
        ax.set_yscale("symlog", linthresh=TAU)  # linear between -tau and tau, logarithmic outside
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_ylim(-0.16, 0.16)
    panels[0].text(4, 0, "hidden: |m| <= tau", fontsize=9, va="center")


plot.show("08_lives", draw_lives)

# %% [markdown]
# Four of each, chosen by chance: blue ends as kept, orange as inverted, grey as hidden. Outside of the grey band the
# scale is logarithmic, so an idle score would fall along a line that is nearly straight, with the slope
# $-\mathrm{wd}_t$. Most do so, even those that stayed: decay spares nobody. But these level off in time, where gradient
# and decay balance (lesson 02). Those that came back and those that turned spent a time inside the band, hidden, and
# were brought out again by their gradient. With the true gradient of a hidden weight, which is 0, none of these
# journeys would exist.
#
# ## 7. Who decides: the first score, or the data?
#
# Count, for all layers, how a weight began and how it ended.

# %%
def transitions(before, after):
    """How many weights went from row to column; kept, hidden, inverted in both."""
    return np.array([[np.sum((before == i) & (after == j)) for j in (1, 0, -1)] for i in (1, 0, -1)])


tables = [transitions(masks[0][layer], masks[-1][layer]) for layer in range(3)]
table = sum(tables)
print("start \\ end      kept   hidden  inverted")
for name, row in zip(("kept", "hidden", "inverted"), table):
    print(f"{name:12}" + "".join(f"{count:9,}" for count in row))
in_use = table[:, [0, 2]].sum()
faithful = (table[0, 0] + table[2, 2]) / in_use
print(f"of the {in_use:,} weights in use at the end, {faithful:.0%} have the sign of their first score")
print(f"but of those that began in use, only {(table[0, 0] + table[2, 2]) / table[[0, 2]].sum():.0%} are still there "
      "with that sign")

# %% [markdown]
# Both numbers are true, and they belong together. Which weights survive is decided by the data, since decay removes all
# that it does not hold. Their *sign*, however, is mostly the first one: a weight that happens to begin on the useful
# side is held there, and one that begins on the wrong side is more easily dropped than turned, as there is usually
# another weight nearby that does the job. A net with 50,000 tickets can afford it.
#
# ## 8. The price of decay
#
# How sparse can it get? We train again with other decays, from none to far too much. To save time we take 40
# epochs in place of 150; a decay of 0.011 then has the effect of 0.003 above ($D_t$ counts steps times decay).

# %%
def run(wd, epochs=40):
    rng = np.random.default_rng(0)
    net = models.fcn(SignedSupermask(tau=TAU), rng, digits.input_shape)
    sgdw = optim.SGDW(net.parameters(), LR, wd, MU, optim.exponential(0.9, every=4 * STEPS))
    entry = train.fit(net, digits, sgdw, epochs, rng, BATCH)["epochs"][-1]
    return entry["test_accuracy"], entry["weights_left"]


decays = (0.0, 0.003, 0.011, 0.025, 0.06)
prices = {wd: run(wd) for wd in decays}
for wd, (right, share) in prices.items():
    print(f"wd {wd:5g}: accuracy {right:.1%}, weights left {share:6.2%} ({round(share * sizes.sum()):6,})")

# %% jupyter={"source_hidden": true}
@plot.chart(7.5, 4.2, x="weights left, % (log scale)", y="held-out accuracy, %", xscale="log")
def draw_price(ax):
    """Held-out accuracy against weights left, log scale, a point for each decay: level for long, then falling where
    few are left.
    """
    shown = [(wd, 100 * right, 100 * share) for wd, (right, share) in prices.items() if share > 0]
    _, rights, shares = zip(*shown)
    ax.plot(shares, rights, "o-", color=BLUE, linewidth=2, markersize=7)
    for i, (wd, right, share) in enumerate(shown):
        ax.annotate(f"wd {wd:g}", (share, right), (-8, 6) if i > 2 else (0, -18 if i % 2 else 9), fontsize=10,
                    textcoords="offset points", ha="right" if i > 2 else "center")
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set(xlim=(min(0.9, *shares) / 1.3, 150), ylim=(min(rights) - 2, 101.5))


plot.show("08_price", draw_price)

# %% [markdown]
# Without decay hardly anything is hidden beyond what began under $\tau$: sparsity comes from decay and from nothing
# else. Then, for a long way, weights go and the accuracy hardly moves: a point or two over nine tenths of the weights,
# where one held-out image is 0.28 %. (Part of that is the haste: with 150 epochs, as above, it is less.) At some point
# decay takes weights that the data wanted, and the accuracy bends down. Where to stop is not a question that the method
# answers for you.
#
# ## 9. The claims of this lesson

# %%
assert all(same), "the loop by hand is the package's, to the bit"
assert all(w.tobytes() == before.tobytes() for w, before in zip(W, W_before)), "no frozen weight was touched"
assert accuracies[0] < 0.3 and accuracies[-1] > 0.96 and total[0] > 0.9 and total[-1] < 0.1
assert np.abs(left[:61, :2] - idle[:61, :2]).max() < 0.05, "most scores are idle, the formula tells when they go"
assert idle[-1, 0] == 0 and 0.01 < left[-1, 0] < 0.2, "what remains is what the data holds"
assert left[-1, 2] > 0.5, "the last layer holds most of its weights"
assert sum(table.ravel()) == sizes.sum() and all(who.any() for who in lives.values()), "all four lives occur"
assert faithful > 0.7, "most weights in use have the sign of their first score"
assert prices[0.0][1] > 0.85, "without decay next to nothing is hidden"
shares = [share for _, share in prices.values()]
assert shares == sorted(shares, reverse=True), "more decay, fewer weights"
assert prices[0.011][0] > prices[0.0][0] - 0.03 and prices[0.011][1] < 0.15, "most weights can go at no price"
assert prices[0.06][0] < prices[0.011][0] - 0.02, "but not all"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson08.py`; `pytest -m lesson08` marks them, `pytest -m lesson08 -k task1` one.
#
# 1. **`signed_mask(m, tau)`**: the mask of an array of scores, exact, and hidden *at* the threshold.
# 2. **`sgdw_step(m, v, g, lr, wd, mu)`**: one step of the optimizer, as in section 3.
# 3. **`idle_share_left(b, tau, wd, steps)`**: how many idle weights are left after some steps of constant decay, in
#    exact form (no $e$).
#
# To think about, without marking: what happens if you set $\tau = 0$ and keep the decay? (Hint: when is a float32 that
# is multiplied by 0.997 again and again equal to 0?)
#
# ## Further reading
#
# Hattie Zhou, Janice Lan, Rosanne Liu and Jason Yosinski, *Deconstructing Lottery Tickets: Zeros, Signs, and the
# Supermask*, 2019, [arXiv:1905.01067](https://arxiv.org/abs/1905.01067). Why signs matter more than sizes, and where
# the word supermask comes from.
#
# Next: `09_reading_a_mask.py` looks at what is left.
