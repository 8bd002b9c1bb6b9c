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
# # Against its relatives: dense, binary, edge-popup
#
# **You will build** two relatives of the signed supermask, each as one function and a class of two lines, and race all
# of them, and a dense net, on the same digits.
#
# **You will learn**
# - what the methods share, and the one place where they differ: how scores become a mask;
# - how to add a method of your own to the package;
# - that a declared gradient must fit its step: with the wrong one, a good method falls apart;
# - how to compare methods fairly, and what inverting really buys.
#
# **You need to know** lessons 02 (declared gradients) and 08 (the signed supermask).
#
# **It takes** about 45 minutes to read. The computer needs less than 15 seconds, some more if it is busy.

# %%
import math

import numpy as np

from minimask import Tensor, data, models, op, ops, optim, plot, train
from minimask.mask import BinarySupermask, EdgePopup, SignedSupermask, Trained

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. One family
#
# All relatives freeze random weights $W$ and train a score $m$ for each. They differ in the mask:
#
# | method | mask $s$ | declared $\partial L/\partial m$ |
# |---|---|---|
# | signed supermask | $\operatorname{sign}(m)$ where $\lvert m\rvert > \tau$, else 0 | $\partial L/\partial s$ |
# | binary supermask | 1 where $m > \tau$, else 0 | $\partial L/\partial s$ |
# | edge-popup | 1 for the layer's $k$ largest $\lvert m\rvert$ | $\operatorname{sign}(m)\, \partial L/\partial s$ |
# | dense | none: the weights are trained | |
#
# The signed supermask is from Koster et al. 2022, the binary one after Zhou et al. 2019, edge-popup after Ramanujan et
# al. 2020.
# Zhou and colleagues draw their masks by chance in training; the published edge-popup has convolutional nets in mind.
# Ours are deterministic forms that fit into the same net, so that only the mask differs. Numbers from the papers are
# neighbours, not targets.
#
# ## 2. A relative is one function
#
# An op is a function that returns a value and a pullback. Here are both relatives. For edge-popup we want *exactly* $k$
# entries, also where scores tie: a stable sort puts the first of equal ones first.

# %%
@op(surrogate=True, register=False)
def my_keep_hide(xp, m, /, tau):
    return xp.astype(m > tau, m.dtype), lambda g: (g,)  # dL/dm := dL/ds


@op(surrogate=True, register=False)
def my_keep_largest(xp, m, /, share):
    k = round(share * m.size)
    order = xp.argsort(-xp.abs(xp.reshape(m, (-1,))), stable=True)  # largest |m| first, of equals the first
    s = xp.zeros((m.size,), dtype=m.dtype)
    s[order[:k]] = 1
    return xp.reshape(s, m.shape), lambda g: (xp.sign(m) * g,)  # dL/dm := sign(m) dL/ds


rng = np.random.default_rng(0)
scores = np.round(rng.uniform(-0.1, 0.1, (30, 20)), 2).astype(np.float32)  # rounded, so that many tie
g = rng.standard_normal(scores.shape).astype(np.float32)
for mine, theirs, setting in ((my_keep_hide, ops.keep_hide, 0.01), (my_keep_largest, ops.keep_largest, 0.1)):
    found = []
    for step in (mine, theirs):
        m = Tensor(scores, requires_grad=True)
        s = step(m, setting)
        s.backward(g)
        found.append((s.data, m.grad))
    assert all(np.array_equal(a, b) for a, b in zip(*found)), theirs
    print(f"{theirs.__name__:12} ours is equal to minimask's, mask and gradient; it keeps {int(found[0][0].sum())} of "
          f"{scores.size}")

# %% [markdown]
# Why $\operatorname{sign}(m)$? Edge-popup ranks by $|m|$. If the loss wants a weight in, its $|m|$ must grow, and for a
# negative score that means to fall. The declared gradient is that of $s = |m|$. The binary mask looks at $m$ itself;
# there the gradient is that of $s = m$. **A straight-through gradient pretends that a step was a simpler function. It
# must be a function that goes the same way.**

# %% jupyter={"source_hidden": true}
@plot.chart(9.5, 3.4, 3, x="score m", y="mask s", title=("signed supermask", "binary supermask", "edge-popup"),
            share=True, legend=("", "", "lower center"))
def draw_steps(*panels):
    """Three masks over the score: three levels, two levels, and two edges; each with the dashed line that its
    gradient pretends.
    """
    m = np.linspace(-0.1, 0.1, 801)
    edge = 0.07  # where the k-th largest |m| happens to be
    masks = (np.sign(m) * (np.abs(m) > 0.01), m > 0.01, np.abs(m) > edge)
    for ax, s, pretended in zip(panels, masks, (m, m, np.abs(m))):
        ax.plot(m, s, color=BLUE, linewidth=2.8, label="computed: s")
        ax.plot(m, 10 * pretended, color=ORANGE, linestyle="--", linewidth=2.2, label="pretended (scaled)")


plot.show("10_steps", draw_steps)

# %% [markdown]
# ## 3. A relative is two lines of class
#
# A layer asks a *weight source* for its weight. `SignedSupermask` draws and holds frozen weights, scores and a
# threshold, and says in `step` how scores become a mask. A relative with a threshold differs in `step` and in nothing
# else. So our binary supermask, ready for any model of the package, is

# %%
class MyBinary(SignedSupermask):
    def step(self, scores):
        return my_keep_hide(scores, self.tau)


digits = data.digits()
STEPS = math.ceil(len(digits.train_images) / 128)


def run(source, epochs=40, lr=0.05, wd=0.011, seed=0, units=(300, 100, 10)):
    """Trains a net of that weight source; the record's entries of all epochs, and the net."""
    rng = np.random.default_rng(seed)
    net = models.fcn(source, rng, digits.input_shape, units=units)
    sgdw = optim.SGDW(net.parameters(), lr, wd, schedule=optim.exponential(0.9, every=epochs / 10 * STEPS))
    return train.fit(net, digits, sgdw, epochs, rng)["epochs"], net


small = {"units": (30, 10, 10), "epochs": 3}
own, theirs = run(MyBinary(tau=0.01), **small), run(BinarySupermask(tau=0.01), **small)
same = [np.array_equal(a.data, b.data) for a, b in zip(own[1].parameters(), theirs[1].parameters())]
print("three epochs with our class and the package's: scores equal to the bit:", same)

# %% [markdown]
# ## 4. The race
#
# All masked nets get the same frozen weights, the same first scores, the same batches, the same rates. (As in lesson
# 08, section 8, 40 epochs with more decay stand for 150.) The dense net gets rates that suit weights. Edge-popup keeps
# a tenth of each layer; that is its setting, decay has no say in it.

# %%
RACERS = {
    "signed supermask": (SignedSupermask(tau=0.01), {}),
    "binary supermask": (BinarySupermask(tau=0.01), {}),
    "edge-popup 10 %": (EdgePopup(share=0.1), {}),
    "dense": (Trained(init="elu"), {"lr": 0.01, "wd": 5e-4}),
}
race = {name: run(source, **settings) for name, (source, settings) in RACERS.items()}
print("method              accuracy after epoch 1, 5, 10, 40    weights left   inverted")
for name, (entries, net) in race.items():
    inverted = sum(counts[2] for counts in net.counts())
    print(f"{name:18}" + "".join(f"{entries[i]['test_accuracy']:9.1%}" for i in (0, 4, 9, -1))
          + f"{entries[-1]['weights_left']:15.1%}{inverted:11,}")
STYLES = dict(zip(RACERS, ((BLUE, "-"), (ORANGE, "--"), (GREY, "-."), ("black", ":"))))  # in the pictures

# %% jupyter={"source_hidden": true}
@plot.chart(9.5, 4.3, 2, x="epoch", y=("held-out accuracy, %", "weights left, %"), legend="outside lower center",
            ncols=4)
def draw_race(left, right):
    """Accuracy, left, and weights left, right, by epoch for four methods; the dense net keeps all weights."""
    for name, (entries, _) in race.items():
        style = dict(zip(("color", "linestyle"), STYLES[name]), linewidth=2.2)
        epochs = [entry["epoch"] for entry in entries]
        left.plot(epochs, [100 * entry["test_accuracy"] for entry in entries], label=name, **style)
        right.plot(epochs, [100 * entry["weights_left"] for entry in entries], **style)
    left.set_ylim(80, 100.5)
    right.set_ylim(0, 104)


plot.show("10_race", draw_race)

# %% [markdown]
# Look at the start first. The signed net keeps pace with the dense one from the first epoch; the binary net, half of
# whose weights begin hidden, since half of the scores begin negative, is slower, and edge-popup slower still. At the
# end all are within a few images of each other: one held-out image is 0.28 %, and with another seed the order may be
# another.
#
# So inverting is good for a quick start and otherwise for nothing? Remember lesson 09: in this net, nearly half of the
# units ended up dead. There are weights in plenty. If the coin has given one unit the wrong sign, the binary mask takes
# the same connection at another unit. To see what inverting is worth, weights have to be *scarce*.
#
# ## 5. When weights are scarce
#
# The same with 30 and 10 units in place of 300 and 100: 2,320 weights in place of 50,200. And with three seeds, because
# one run is an anecdote. Both methods get the same frozen weights for the same seed, so we may compare pair by pair.

# %%
scarce = {name: [run(source, seed=seed, units=(30, 10, 10))[0][-1] for seed in range(3)]
          for name, source in (("signed supermask", SignedSupermask(tau=0.01)),
                               ("binary supermask", BinarySupermask(tau=0.01)))}
print("seed     signed: accuracy, left      binary: accuracy, left")
for seed, (signed, binary) in enumerate(zip(*scarce.values())):
    print(f"{seed:4}" + "".join(f"{entry['test_accuracy']:18.1%}{entry['weights_left']:9.1%}"
                                for entry in (signed, binary)))
lead = [signed["test_accuracy"] - binary["test_accuracy"] for signed, binary in zip(*scarce.values())]
print(f"the signed supermask leads by {100 * np.mean(lead):.1f} points on average, from {100 * min(lead):.1f} to "
      f"{100 * max(lead):.1f}")

# %% jupyter={"source_hidden": true}
@plot.chart(7.5, 3.8, x="size of the net", y="held-out accuracy, %", grid="y", legend="lower left", xlim=(-0.5, 1.6),
            xticks=[0, 1.06], xticklabels=["50,200 weights (seed 0)", "2,320 weights (seeds 0, 1, 2)"])
def draw_scarce(ax):
    """Accuracy of signed and binary supermasks, in a large net and, for three seeds, in a small one."""
    for name, marker in (("signed supermask", "o"), ("binary supermask", "s")):
        ends = [100 * entry["test_accuracy"] for entry in (race[name][0][-1], *scarce[name])]
        ax.plot([0, 1, 1.06, 1.12], ends, marker, color=STYLES[name][0], markersize=10, label=name, alpha=0.85)
    ax.set_ylim(ax.dataLim.ymin - 2, 100)


plot.show("10_scarce", draw_scarce)

# %% [markdown]
# Now there is a difference, for every seed, of ten images and more. The signed mask can choose each connection *and*
# its sign; the binary one can only choose among the signs that the coins have dealt. One bit more per weight makes up
# for lacking weights. (It also keeps somewhat more of them, as more of them are of use to it. So this is not a
# comparison at equal sparsity.)
#
# Is this a proof that signed masks are better than binary ones? No. It is one kind of net, one data set, one setting of
# the rates, which was found for the signed method. Somebody who wants the binary mask to win should be allowed to tune
# its rates as well. Say so when you report numbers.
#
# ## 6. The wrong declaration
#
# Finally, edge-popup with the straight-through gradient of the others, $\partial L/\partial m := \partial L/\partial
# s$. It differs by a sign, and for half of the scores only.

# %%
@op(surrogate=True, register=False)
def wrong_way(xp, m, /, share):
    return ops.keep_largest(m, share).data, lambda g: (g,)  # not the way that |m| goes, where m < 0


class WrongWay(EdgePopup):
    def step(self, scores):
        return wrong_way(scores, self.share)


lost = [entry["test_accuracy"] for entry in run(WrongWay(share=0.1), epochs=8)[0]]
print("accuracy after each epoch, wrong gradient:", *(f"{right:.1%}" for right in lost))
print("the same with sign(m):                    ",
      *(f"{entry['test_accuracy']:.1%}" for entry in race["edge-popup 10 %"][0][:8]))

# %% [markdown]
# A negative score whose weight is wanted is pushed *up*, so its $|m|$ falls and its weight is thrown out; one whose
# weight does harm is pushed further down, and stays. For half of the scores the net learns the opposite of what it
# should. No error, no warning, and the forward pass is right to the last bit: only a test of the gradient, or a look at
# the accuracy, finds it.
#
# ## 7. The claims of this lesson

# %%
ends = {name: entries[-1] for name, (entries, _) in race.items()}
assert all(same), "our class is the package's"
assert all(end["test_accuracy"] > 0.92 for end in ends.values()), "every racer arrives"
assert ends["dense"]["weights_left"] == 1 and ends["signed supermask"]["weights_left"] < 0.12
counts = race["edge-popup 10 %"][1].counts()
assert [kept for kept, _, _ in counts] == [1920, 3000, 100], "edge-popup keeps exactly a tenth of each layer"
assert all(c[2] == 0 for name in ("binary supermask", "edge-popup 10 %") for c in race[name][1].counts())
signed = race["signed supermask"][1].counts()
assert 0.4 < sum(c[2] for c in signed) / sum(c[0] + c[2] for c in signed) < 0.6, "half is inverted"
first = {name: entries[0]["test_accuracy"] for name, (entries, _) in race.items()}
assert first["signed supermask"] > first["binary supermask"], "inverting gives a quicker start"
assert np.mean(lead) > 0.01, "where weights are scarce, inverting pays"
assert max(lost[4:]) < 0.6 < race["edge-popup 10 %"][0][7]["test_accuracy"], "a wrong declaration ruins a good method"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson10.py`; `pytest -m lesson10` marks them, `pytest -m lesson10 -k task1` one.
#
# 1. **`largest(m, share)`**: the mask of edge-popup, exactly $k$ entries, ties by the lowest index.
# 2. **`declared(method, m, g)`**: the gradients of all three steps.
# 3. **`relative_step`**: an op of a relative that nobody has published: keep *or invert* the $k$ largest $|m|$ of the
#    layer. What gradient will you declare? Then derive a class from `EdgePopup` and let it race.
#
# ## Further reading
#
# James Diffenderfer and Bhavya Kailkhura, *Multi-Prize Lottery Ticket Hypothesis: Finding Accurate Binary Neural
# Networks by Pruning a Randomly Weighted Network*, ICLR 2021, [arXiv:2103.09377](https://arxiv.org/abs/2103.09377).
# Edge-popup for nets whose weights have one bit: another cousin.
#
# Next: `11_two_libraries.py` runs the same code on other machines.
