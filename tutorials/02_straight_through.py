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
# # Straight through: how to train a step that has no slope
#
# **You will build** three versions of the keep/hide/invert step that differ only in their gradient, and let them
# compete: who finds a hidden mask from data?
#
# **You will learn**
# - why the true gradient of a step is useless;
# - what it means to *declare* a gradient, and why it must reach hidden weights too;
# - why a well-known one-line trick for this gives masks that are not exact, and how much they are off;
# - how weight decay on the scores hides what the data does not need, and where exactly the border lies.
#
# **You need to know** what a gradient and gradient descent are, and a little NumPy. Lesson 01 explains pullbacks and
# cotangents; one sentence about them is repeated below.
#
# **It takes** about 40 minutes to read. The computer needs less than 5 seconds.

# %%
import itertools
import math

import numpy as np

from minimask import Tensor, nn, ops, optim, plot
from minimask.engine import op
from minimask.mask import SignedSupermask

GREY = "#777777"

# %% [markdown]
# ## 1. A step has no slope
#
# A signed supermask turns a score $m$ into a decision, with a threshold $\tau$ ("tau"):
#
# $$s(m) = \begin{cases} +1 & m > \tau \quad\text{(keep)} \\ 0 & |m| \le \tau \quad\text{(hide)} \\
# -1 & m < -\tau \quad\text{(invert)} \end{cases}$$
#
# The layer computes with $W \cdot s$, where the random weights $W$ are frozen. We want to train the scores by gradient
# descent. So, what is $ds/dm$? Ask finite differences, $\bigl(s(m+h) - s(m-h)\bigr) / 2h$, at 100,000 random scores.

# %%
TAU = 0.01
rng = np.random.default_rng(0)
m = rng.uniform(-0.1, 0.1, 100_000)


def s(m):
    return np.sign(m) * (np.abs(m) > TAU)  # s = sign(m) where |m| > tau, else 0


print("      h  scores with a slope  expected  the slope there")
shares = []
for h in (1e-2, 1e-3, 1e-4, 1e-5, 1e-7):
    slope = (s(m + h) - s(m - h)) / (2 * h)
    shares.append(np.mean(slope != 0))
    there = f"{slope.max():,.0f}" if slope.any() else "none found"
    print(f"{h:7}  {shares[-1]:19.3%}  {4 * h / 0.2:8.3%}  {there:>15}")

# %% [markdown]
# A difference sees something only if one of the two edges, $-\tau$ or $+\tau$, lies within $h$ of the score. Each edge
# is seen from a stretch of length $2h$, and the scores cover a length of 0.2: that is the share $4h/0.2$ in the third
# column. As $h$ shrinks, fewer and fewer scores see an edge, and those few see a slope that grows like $1/2h$. In the
# limit the slope is 0 everywhere but at two points, and there it does not exist.
#
# So the true gradient is correct, and useless. It says: no small change of any score changes anything. Gradient descent
# that listens to it stands still.
#
# ## 2. A declared gradient
#
# The way out is simple, and a little brazen. Forwards we compute the step. Backwards we *pretend* that the step was the
# identity, and pass the gradient *straight through*:
#
# $$\frac{\partial L}{\partial m} \;:=\; \frac{\partial L}{\partial s} .$$
#
# The sign $:=$ says that this is a declaration, not a derivation. Why may it work? If the loss wants $s$ to be larger,
# then a larger $m$ is the only way to get there, sooner or later. The sign of the advice is right, though its size is
# made up.
#
# In minimask an operation is a function that returns a value and a *pullback*: a function that takes $g = \partial L /
# \partial(\text{value})$ and returns $\partial L/\partial(\text{input})$. So we can declare what we like. Here is the
# step with its true gradient, with the straight-through one, and with a third: straight through, but only for weights
# that are in use.

# %%
@op(surrogate=True, register=False)  # surrogate: the gradient is declared; register=False: only for this lesson
def zero_slope(xp, m, /, tau):
    s = xp.astype(m > tau, m.dtype) - xp.astype(m < -tau, m.dtype)
    return s, lambda g: (xp.zeros_like(g),)  # dL/dm = 0: the truth


@op(surrogate=True, register=False)
def straight_through(xp, m, /, tau):
    s = xp.astype(m > tau, m.dtype) - xp.astype(m < -tau, m.dtype)
    return s, lambda g: (g,)  # dL/dm := dL/ds


@op(surrogate=True, register=False)
def only_visible(xp, m, /, tau):
    s = xp.astype(m > tau, m.dtype) - xp.astype(m < -tau, m.dtype)
    return s, lambda g: (g * xp.abs(s),)  # dL/dm := dL/ds where s is not 0


scores = np.float32([-0.30, -0.01, 0.0, 0.004, 0.02])
g = np.float32([1.0, 2.0, 3.0, 4.0, 5.0])
results = {}
for step in (zero_slope, only_visible, straight_through, ops.keep_hide_invert):
    m = Tensor(scores, requires_grad=True)
    value = step(m, TAU)
    value.backward(g)
    results[step.__name__] = value.data, m.grad
    print(f"{step.__name__:17} s {value.data}  dL/dm {m.grad}")

# %% [markdown]
# All four agree forwards. The last line is the step that the package brings along, and it is the straight-through one.
# Look at `minimask/mask.py`: it computes the same, with the same pullback.
#
# Here is the function, and what the gradient pretends about it. (In the left picture the line of slope 1 looks flat,
# because $s$ spans 2 and the scores shown span 0.08. So much for the size of the pretended slope; only its sign is
# serious.)

# %% jupyter={"source_hidden": true}
@plot.chart(9, 3.8, 2, x="score m", y=("s", "ds/dm"), title=("forwards: the step", "backwards: its slope"), grid="",
            legend=("upper left", "center"), xlim=(-0.04, 0.04), xticks=[-0.03, -TAU, 0, TAU, 0.03],
            xticklabels=["-0.03", "-tau", "0", "+tau", "0.03"])
def draw_step(left, right):
    """Left a staircase, -1, 0, +1, with edges at -tau and tau, and the line of slope 1 that is pretended; right the
    two slopes.
    """
    computed, pretended = {"color": plot.KEPT, "linewidth": 3}, {"color": plot.INVERTED, "linewidth": 2, "ls": "--"}
    for ax, edge in itertools.product((left, right), (-TAU, TAU)):
        ax.axvline(edge, color=GREY, linewidth=0.8, linestyle=":")
    left.plot([-0.04, 0.04], [-0.04, 0.04], label="pretended: slope 1", **pretended)
    for low, high, value, text in ((-0.04, -TAU, -1, "invert"), (-TAU, TAU, 0, "hide"), (TAU, 0.04, 1, "keep")):
        left.plot([low, high], [value, value], label=None if value else "computed: s(m)", **computed)
        left.text((low + high) / 2, value + 0.08, text, ha="center", va="bottom", fontsize=11)
    left.plot([-TAU, TAU], [0, 0], "o", color=plot.KEPT)  # the edges belong to "hide"
    left.plot([-TAU, TAU], [-1, 1], "o", color=plot.KEPT, markerfacecolor="white")
    left.set_ylim(-1.3, 1.4)
    right.plot([-0.04, 0.04], [1, 1], label="declared: 1 everywhere", **pretended)
    right.plot([-0.04, 0.04], [0, 0], label="true: 0, none at the edges", **computed)
    right.plot([-TAU, TAU], [0, 0], "o", color=plot.KEPT, markerfacecolor="white")
    right.set_ylim(-0.3, 1.5)


plot.show("02_step", draw_step)

# %% [markdown]
# ## 3. Why it must reach hidden weights
#
# Follow one weight, $w = 0.5$, that is hidden at the start. One input $x = 1$, and the target is $t = 0.5$, so keeping
# the weight would be perfect:
#
# $$y = x \cdot w \cdot s(m), \qquad L = \tfrac12 (y - t)^2, \qquad
# \frac{\partial L}{\partial s} = (y - t)\, x\, w, \qquad \frac{\partial L}{\partial w} = (y - t)\, x\, s .$$
#
# Look at the two gradients. The one for $w$ has the factor $s$: for a hidden weight it is 0. So in ordinary pruning, a
# weight that was cut never hears again whether it was needed. The one for $s$ has the factor $w$ in its place, and
# $w$ is never 0. The score of a hidden weight still hears from the data, and the weight can come back.

# %%
m, w = Tensor(np.array([0.0]), requires_grad=True), np.array([0.5])
print("step  score m   s    y    dL/dm")
visible = []
for i in range(6):
    mask = ops.keep_hide_invert(m, TAU)
    y = w * mask  # y = x w s, with x = 1
    loss = ((y - 0.5) ** 2).sum() * 0.5  # L = (y - t)^2 / 2
    m.grad = None
    loss.backward()
    print(f"{i:4}  {m.data[0]:+.4f}  {mask.data[0]:+.0f}  {y.data[0]:.1f}  {m.grad[0]:+.3f}")
    visible.append(int(mask.data[0]))
    m.data = m.data - 0.015 * m.grad  # m <- m - eta dL/dm
assert visible[0] == 0 and visible[-1] == 1, "the hidden weight should come back"

# %% [markdown]
# The score climbs at a constant speed, crosses $\tau$, the weight appears, the loss is 0, and all is at rest.
#
# ## 4. The competition: find a mask
#
# One number proves little. Let us take a problem whose right answer we know. A layer has $32 \times 16$ frozen weights
# $W$, each $+1$ or $-1$ by the toss of a coin, and a secret mask $s^*$ with entries $-1$, $0$, $+1$. We get 256 random
# inputs $X$ and the outputs $Y = X\,(W \cdot s^*)$. From these data alone we look for the mask, by training scores:
#
# $$L = \frac{1}{2n} \bigl\lVert X\,(W \cdot s(m)) - Y \bigr\rVert^2 , \qquad m \leftarrow m - \eta\, g .$$
#
# Here we can even say what the declared gradient will be. The inputs are independent with variance 1, so
# $X^\top X / n$ is roughly the identity matrix, and $W^2 = 1$:
#
# $$\frac{\partial L}{\partial s} = W \cdot \frac{X^\top X}{n} \bigl(W \cdot (s - s^*)\bigr) \;\approx\; s - s^* .$$
#
# Zero where the mask is right; otherwise it points at the right answer. "Roughly" is what makes it a problem.

# %%
N, INPUTS, OUTPUTS = 256, 32, 16
rng = np.random.default_rng(1)
W = (2.0 * rng.integers(0, 2, (INPUTS, OUTPUTS)) - 1).astype(np.float32)
secret = rng.integers(-1, 2, (INPUTS, OUTPUTS)).astype(np.float32)
X = rng.standard_normal((N, INPUTS)).astype(np.float32)
start = rng.uniform(-0.1, 0.1, (INPUTS, OUTPUTS)).astype(np.float32)


def search(step, X, steps, eta=0.006, wd=0.0):
    """Trains scores against Y = X (W s*). Returns the masks after 0, 1, ..., `steps` steps, and the losses."""
    Y = X @ (W * secret)
    m = Tensor(start.copy(), requires_grad=True)
    optimizer = optim.SGDW([m], lr=eta, wd=wd, momentum=0.0)
    masks, losses = [], []
    for i in range(steps + 1):
        mask = step(m, TAU)
        residual = X @ (W * mask) - Y
        loss = ops.sum(residual * residual) * (1 / (2 * len(X)))  # L = ||X (W s) - Y||^2 / 2n
        masks.append(mask.data.astype(int))
        losses.append(loss.item())
        if i < steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()  # m <- m - wd m, then m <- m - eta g
    return masks, losses


# %% [markdown]
# The three steps differ in nothing but their pullback, and they start from the same scores. Which of them arrives?

# %%
STEPS = 60
W_before = W.tobytes()
found = {step.__name__: search(step, X, STEPS) for step in (zero_slope, only_visible, straight_through)}
for name, (masks, losses) in found.items():
    right = [np.mean(mask == secret) for mask in masks]
    first = f"all right from step {right.index(1.0)}" if 1.0 in right else "never all right"
    print(f"{name:17} right entries {right[0]:.1%} -> {right[-1]:6.1%}, loss {losses[0]:.1f} -> {losses[-1]:5.1f}, "
          + first)

# %% [markdown]
# The true gradient has not moved one entry. The straight-through gradient has found the secret mask, all 512 entries,
# and the loss is 0.
#
# And the one in between? It improves for some twenty steps, then it is stuck below 60 %. Whatever it hides, it loses
# for ever: entries that began hidden, and entries on the way from $+1$ to $-1$, which have to pass through 0.

# %% jupyter={"source_hidden": true}
def draw_search():
    """Above, the mask after 0, 5 and 20 steps beside the secret one; below, the share of right entries by step, for
    three gradients.
    """
    figure = plot.new_figure(9, 6)
    axes = figure.subplot_mosaic([[0, 5, 20, "secret"], ["course"] * 4], height_ratios=(1.1, 1))
    masks = found["straight_through"][0]
    for place in (0, 5, 20, "secret"):
        title, mask = ("the secret mask", secret) if place == "secret" else (f"after {place} steps", masks[place])
        axes[place].imshow(mask, cmap=plot.mask_colours(), vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        axes[place].set_title(f"{title}\n{np.mean(mask == secret):.0%} right", fontsize=11)
        axes[place].set(xlabel="output", ylabel="input" if place == 0 else "")
    figure.legend(plot.mask_legend(), ("keep", "invert", "hide"), loc="outside upper center", ncols=3)
    ax = axes["course"]
    for name, colour, style, above in (("zero_slope", GREY, ":", 3), ("only_visible", plot.INVERTED, "--", 3),
                                       ("straight_through", plot.KEPT, "-", -11)):
        right = [100 * np.mean(mask == secret) for mask in found[name][0]]
        ax.plot(right, color=colour, linestyle=style, linewidth=2.5)
        ax.text(STEPS * 0.98, right[-1] + above, name, ha="right", va="bottom", fontsize=11)
    ax.set(xlabel="step", ylabel="% of the entries right", xlim=(0, STEPS), ylim=(0, 105))
    ax.grid(True, alpha=0.3)
    return figure


plot.show("02_search", draw_search)

# %% [markdown]
# ## 5. The one-line trick, and what it costs
#
# Many programs get the straight-through gradient without a declaration, with an identity that you will meet in many
# repositories:
#
# $$s = \operatorname{stop}(\text{hard}) + m - \operatorname{stop}(m) ,$$
#
# where $\operatorname{stop}$ lets no gradient through (`detach` in minimask and PyTorch). Forwards $m - m$ cancels,
# backwards only the middle $m$ counts, with slope 1. On paper this is perfect. But a computer rounds. In float32,
# numbers just above 1 have a spacing of $2^{-23}$, those just below of $2^{-24}$. So $1 + m$ loses the last digits of
# $m$, and subtracting $m$ does not bring them back. How often does that happen? We also try another spelling of the
# same identity, $m + \operatorname{stop}(\text{hard} - m)$.

# %%
rng = np.random.default_rng(2)
bound = math.sqrt(6 / (784 + 300))  # Xavier: the scores of the first layer of the paper's net for MNIST
m = Tensor(rng.uniform(-bound, bound, (784, 300)).astype(np.float32), requires_grad=True)

exact = ops.keep_hide_invert(m, TAU)
hard = exact.detach()
trick = hard + m - m.detach()  # stop(hard) + m - stop(m)
other = m + (hard - m).detach()  # m + stop(hard - m)

on = hard.data != 0
off = {}
for name, value in (("exact", exact), ("hard + m - m", trick), ("m + (hard - m)", other)):
    error = np.abs(value.data - hard.data)
    off[name] = (error[on] != 0).mean(), error.max(), int((error[~on] != 0).sum())
    print(f"{name:14}  +-1 entries that are off {off[name][0]:6.2%}, by at most {off[name][1]:.1e}; "
          f"hidden entries that are off {off[name][2]}; different values {len(np.unique(value.data))}")

g = rng.standard_normal(m.shape).astype(np.float32)
gradients = []
for value in (exact, trick):
    m.grad = None
    value.backward(g)
    gradients.append(m.grad)
assert np.array_equal(*gradients), "the gradients of both are the same"
print("kept entries, counted with s == 1:", int((exact.data == 1).sum()), "exact,", int((trick.data == 1).sum()),
      "with the trick")

# %% [markdown]
# The errors are tiny. A picture would not show them, nor would the accuracy. But the method promises that every weight
# in use is *exactly* $w$ or $-w$, and now it is not. A count with `s == 1` misses nearly a quarter of the kept entries.
# And whoever packs the mask into two bits per weight ships another net than the one that was tested.
#
# The other spelling came out exact, by luck: $1 - m$ is rounded by at most half the spacing below 1, and adding $m$
# rounds just that away. Two lines that are equal on paper, and only one is right in float32: nobody should have to
# know this. An operation with a declared gradient costs no more, and is exact because nothing in it is rounded.
#
# ## 6. What weight decay does to a score
#
# So far nothing wanted weights to be hidden, except the data. Sparse masks come from weight decay. In minimask's SGDW
# it is *decoupled*: every step multiplies the score by $1 - \mathrm{wd}$, whatever the learning rate and the gradient
# are. A score that gets no gradient falls like compound interest in reverse, and we can compute the step at which it
# goes under $\tau$:
#
# $$|m_t| = |m_0|\,(1 - \mathrm{wd})^t \le \tau \quad\Longleftrightarrow\quad
# t \ge \frac{\ln(|m_0| / \tau)}{-\ln(1 - \mathrm{wd})} .$$
#
# The usual *coupled* form (L2 regularisation) adds $\mathrm{wd} \cdot m$ to the gradient, which is then multiplied by
# the learning rate: the factor per step is only $1 - \mathrm{lr} \cdot \mathrm{wd}$.

# %%
LR, WD, MU = 0.05, 0.003, 0.9  # as in lesson 00
m0 = np.array([0.12, 0.06, 0.03, 0.015])

m = Tensor(m0.copy(), requires_grad=True)
optimizer = optim.SGDW([m], lr=LR, wd=WD, momentum=MU)
m.grad = np.zeros(4)  # the data says nothing
hidden_at = np.full(4, -1)
for t in range(1, 1500):
    optimizer.step()
    hidden_at[(hidden_at < 0) & (np.abs(m.data) <= TAU)] = t

predicted = np.ceil(np.log(m0 / TAU) / -np.log(1 - WD)).astype(int)  # t = ln(|m0|/tau) / -ln(1 - wd)
coupled = np.ceil(np.log(m0 / TAU) / -np.log(1 - LR * WD)).astype(int)  # the same with lr * wd
print("score at the start          ", m0)
print("hidden after steps, measured", hidden_at)
print("hidden after steps, formula ", predicted)
print("coupled decay would take    ", coupled)
assert np.array_equal(hidden_at, predicted)

# %% [markdown]
# Twenty times longer, because the learning rate is 1/20. Whoever takes the method over into another library and forgets
# this difference sees hardly any weight disappear.
#
# The formula explains a picture of lesson 00. There, the scores of the first layer begin between $-b$ and $b$ with
# $b = \sqrt{6/(64+300)}$, and both rates fall by 0.9 every 15 epochs of 12 steps. By when must all scores without a
# gradient be hidden? When the decays of all steps, $\sum_t \mathrm{wd}_t$, add up to $\ln(b/\tau)$:

# %%
b = math.sqrt(6 / (64 + 300))
decay_so_far = np.cumsum(WD * 0.9 ** (np.arange(150 * 12) / (15 * 12)))  # sum of wd_t
last_step = int(np.argmax(decay_so_far >= math.log(b / TAU)))
print(f"all idle scores are hidden by epoch {last_step / 12:.0f}")

# %% [markdown]
# Look at the curve "weights left" of lesson 00: there is its bend.
#
# **And a score that the data does want?** Suppose its gradient is a constant $g$. The velocity of SGDW settles at
# $v = -\mathrm{lr}\, g/(1 - \mu)$, so each step moves the score by $-\mathrm{lr}\, g / (1-\mu)$, and decay takes
# $\mathrm{wd} \cdot m$ away. They balance at
#
# $$m^* = -\frac{\mathrm{lr}}{(1 - \mu)\,\mathrm{wd}}\; g ,
# \qquad\text{so the weight stays in use if}\qquad |g| > \frac{(1 - \mu)\,\mathrm{wd}}{\mathrm{lr}}\;\tau .$$
#
# Keep or hide is therefore a question of how strongly the data pulls, not of where the score began. The two rates and
# the threshold only set the border.

# %%
border = (1 - MU) * WD / LR * TAU  # |g| > (1 - mu) wd / lr * tau
g = -border * np.array([3.0, 1.5, 0.7, 0.0, -2.0])
begin = np.array([0.002, 0.05, 0.05, 0.05, 0.05])
m = Tensor(begin.copy(), requires_grad=True)
optimizer = optim.SGDW([m], lr=LR, wd=WD, momentum=MU)
paths = [begin.copy()]
for _ in range(3000):
    m.grad = g
    optimizer.step()
    paths.append(m.data.copy())
paths = np.array(paths)  # (3001, 5)

balance = -LR / ((1 - MU) * WD) * g  # m* = -lr / ((1 - mu) wd) g
print(f"border: |g| = {border:.1e}")
for i in range(5):
    state = {1: "kept", 0: "hidden", -1: "inverted"}[int(s(paths[-1, i]))]
    print(f"|g| is {abs(g[i]) / border:.1f} of the border: score {begin[i]:+.3f} -> {paths[-1, i]:+.5f}, "
          f"balance {balance[i]:+.5f}, {state}")
np.testing.assert_allclose(paths[-1], balance, atol=1e-4)

# %% jupyter={"source_hidden": true}
@plot.chart(9, 4.2, x="step", y="score m", title="decay pulls to 0, a constant gradient holds against it", grid="",
            legend="outside right center", xlim=(0, 3000))
def draw_decay(ax):
    """Five scores over 3,000 steps: without a gradient one decays into the hidden band, and strong ones are held
    outside of it.
    """
    ax.axhspan(-TAU, TAU, color="#e4e4de", label="hidden: |m| <= tau")
    for i, (colour, style) in enumerate(zip((plot.KEPT, plot.KEPT, plot.INVERTED, GREY, plot.INVERTED),
                                            ("-", "--", "--", "-.", "-"))):
        ax.plot(paths[:, i], color=colour, linestyle=style, linewidth=2.2,
                label=f"g = {g[i] / border:+.1f} x border" if g[i] else "g = 0")


plot.show("02_decay", draw_decay)

# %% [markdown]
# ## 7. Decay at work
#
# Back to the search for the mask. This time 8 of the 32 inputs are always 0, like the corner pixels of the digits. The
# data cannot know which mask these inputs have, and does not care. Without decay their scores stay where they began,
# and most of these useless weights stay in use. With decay they are hidden, and the others are found as before.

# %%
X_dead = X.copy()
X_dead[:, 24:] = 0
pruned = {}
for wd in (0.0, 0.005):
    masks, losses = search(straight_through, X_dead, 800, wd=wd)
    pruned[wd] = np.mean(masks[-1][:24] == secret[:24]), np.mean(masks[-1][24:] == 0)
    print(f"wd {wd}: live entries right {pruned[wd][0]:.1%}, useless entries hidden {pruned[wd][1]:.1%}, "
          f"loss {losses[-1]:.2f}")

# %% [markdown]
# Decay has a price: it never sleeps. A score that is right gets no gradient here, so it sinks until it falls under
# $\tau$. Then its absence makes an error, and the gradient lifts it again. A few entries are always on this ride. Rates
# that fall towards the end, as in lesson 00, make the ride slower.
#
# To see the declared gradient at work, number by number: one step of a single layer on our inputs, whose class is the
# largest of the 16 outputs under the secret mask. Open the page in a browser, go to the last pullback of its second
# act, and follow a score that flips.

# %%
layer = nn.Sequential([nn.Dense(INPUTS, OUTPUTS, SignedSupermask(tau=TAU), np.random.default_rng(2))], (INPUTS,))
plot.step(layer, X, (X @ (W * secret)).argmax(axis=1), optim.SGDW(layer.parameters(), lr=0.2, wd=0.005),
          title="Lesson 02: one step through a step without a slope").show("02_page")

# %% [markdown]
# ## 8. The claims of this lesson

# %%
accuracy = {name: np.mean(masks[-1] == secret) for name, (masks, _) in found.items()}
masks, losses = found["zero_slope"]
assert np.array_equal(masks[0], masks[-1]) and losses[0] == losses[-1], "with zero slope nothing moves"
assert accuracy["straight_through"] == 1.0 and found["straight_through"][1][-1] == 0, "it should find the mask"
assert accuracy["zero_slope"] < accuracy["only_visible"] < 0.95, "what it hides it should lose"
assert W.tobytes() == W_before, "the frozen weights should be untouched"
assert np.array_equal(results["straight_through"], results["keep_hide_invert"]), "ours should be minimask's"
assert np.allclose(shares[:3], [0.2, 0.02, 0.002], rtol=0.3) and shares[-1] < 1e-4, "an edge is rarely in sight"
assert off["exact"][:2] == (0, 0), "the op should be exact"
assert 0.05 < off["hard + m - m"][0] < 0.5 and 0 < off["hard + m - m"][1] < 1.3e-7, "the trick should not be"
assert coupled[0] > 15 * predicted[0]
assert pruned[0.0][1] < 0.3 and pruned[0.005][1] == 1.0 and pruned[0.005][0] > 0.9, "decay hides the useless ones"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write them in `exercises/lesson02.py`, where each is described in full, and let pytest mark them from the folder of
# the course (in a checkout: `tutorials/`): `pytest exercises/test_lesson02.py`, or one with `-k task1`.
#
# 1. **Only keep and hide.** `binary_step`: $s = 1$ where $m > \tau$ and 0 elsewhere, straight through. Then search for
#    the secret mask of section 4 with it. What is the best that it can do? *Hint: for each entry of $s^*$, which of 0
#    and 1 is nearer?*
# 2. **Another declaration.** Many papers clip. `clipped_step`: $\partial L/\partial m := \partial L/\partial s$ where
#    $|m|$ is at most a bound, else 0. Try it in section 4 with the bound 0.05. *Hint: which scores can now never turn
#    back? Compare with the loser of section 4, which could not move from inside.*
# 3. **When is it hidden?** `steps_until_hidden(m0, tau, wd)`: section 6 as a function, for scores of either sign.
#    *Hint: what does the formula say of a score that is hidden at the start?*
#
# **To explore**: draw $W$ in section 4 from a normal distribution. How many entries are right after 60 steps, after
# 600? Repeat the calculation of $\partial L/\partial s$ without $W^2 = 1$, and sort the wrong entries by $|W|$. Then
# guess why the paper's best networks use signed constants.
#
# ## Further reading
#
# Yoshua Bengio, Nicholas Léonard and Aaron Courville, *Estimating or Propagating Gradients Through Stochastic Neurons
# for Conditional Computation*, 2013, [arXiv:1308.3432](https://arxiv.org/abs/1308.3432). It compares several ways past
# a step, and gave the straight-through estimator its place in the literature.
#
# Next: `03_broadcasting.py` looks at the sum that an engine needs for arrays of different shapes.
