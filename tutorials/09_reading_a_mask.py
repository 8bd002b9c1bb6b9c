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
# # Reading a mask: figure 1, dead units, and who is inverted
#
# **You will build** tools to read what training has left: the paper's figure 1, a picture of what single units look at,
# a search for units that do nothing, and a smaller net that gives the same answers.
#
# **You will learn**
# - to read a mask, and not to read too much into it: the mask alone looks like noise, and there is a reason;
# - that inverting is not a rare repair but half of all decisions, and why it must be so;
# - that a sparse mask kills whole units, in two ways, and that counting them needs a walk through the whole net;
# - to test whether a picture means something: by numbers, and by sabotage.
#
# **You need to know** lessons 00 and 08: what a signed supermask is and how it is trained.
#
# **It takes** about 40 minutes to read. The computer needs less than 10 seconds.

# %%
import math

import numpy as np

import minimask
from minimask import data, models, optim, plot, train
from minimask.mask import SignedSupermask

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. A trained mask
#
# The net is that of lesson 08, and the package trains it. We take the masks out (+1 kept, 0 hidden, -1 inverted), the
# frozen weights, and their products, the *effective* weights with which the net computes.

# %%
digits = data.digits()


def net_of_lesson_08():
    """300, 100 and 10 units on the digits, trained for 150 epochs: the same seed, so the same net to the bit."""
    rng = np.random.default_rng(0)
    net = models.fcn(SignedSupermask(tau=0.01), rng, digits.input_shape)
    steps = math.ceil(len(digits.train_images) / 128)
    sgdw = optim.SGDW(net.parameters(), lr=0.05, wd=0.003, schedule=optim.exponential(0.9, every=15 * steps))
    train.fit(net, digits, sgdw, 150, rng)
    return net


net = net_of_lesson_08()
masks = [mask.astype(int) for mask in net.masks().values()]  # (64, 300), (300, 100), (100, 10)
frozen = [source.frozen for source in net.weights().values()]
effective = [w * s for w, s in zip(frozen, masks)]
x = data.standardise(digits.test_images).reshape(-1, 64)  # (360, 64)


def logits(weights, signal):
    """The net with these effective weights, on images or signals (n, inputs of the first)."""
    for layer, w in enumerate(weights):
        signal = signal @ w
        if layer < len(weights) - 1:
            signal = np.where(signal > 0, signal, np.expm1(np.minimum(signal, 0)))  # ELU
    return signal


def accuracy(weights):
    return float(np.mean(logits(weights, x).argmax(axis=1) == digits.test_labels))


with minimask.no_grad():
    same_logits = np.abs(logits(effective, x) - net(data.standardise(digits.test_images)).data).max()
print(f"accuracy {accuracy(effective):.1%} with {net.weights_left():.1%} of the weights; our logits differ from the "
      f"net's by at most {same_logits:.0e}")

# %% [markdown]
# ## 2. Figure 1 of the paper
#
# It shows the mask of the first layer. A column is a pixel, a row is a unit: blue where the unit sees the pixel, orange
# where it sees it inverted, white where it does not see it. Above lies an image in the same columns.

# %%
plot.show("09_figure1", lambda: plot.masks(net, digits, image=0), alt="An image, and the masks of the three layers.")

# %% [markdown]
# Three things catch the eye. First, vertical white stripes: pixels that no unit looks at, the same in every eight
# columns. They are the margins of the image, and lesson 00 has shown that they hardly vary. Second, horizontal white
# stripes: units that look at nothing. We come to them in section 4. Third, where there is colour, blue and orange are
# mixed as if someone had tossed a coin.
#
# Somebody has.
#
# ## 3. Who is inverted?
#
# The frozen weights are $+c$ or $-c$ by the toss of a coin. Suppose the data wants a positive connection between a
# pixel and a unit. If the coin fell on $+c$, the weight must be kept, if on $-c$, inverted. The same the other way
# round for a negative one. So whatever the data wants, **half of the weights in use must be inverted**, and which half,
# only the coins know. The mask contains what the data wants *times* the coins; to see the data's part, multiply with
# the coins once more:
#
# $$\operatorname{sign}(W_\text{eff}) = \operatorname{sign}(W) \cdot s .$$

# %%
print("layer  in use  inverted   effective weight positive")
for layer, (s, w) in enumerate(zip(masks, effective)):
    used = s != 0
    print(f"{layer + 1:5}  {used.sum():6,}  {np.mean(s[used] < 0):8.1%}  {np.mean(w[used] > 0):10.1%}")
inverted = sum(int((s < 0).sum()) for s in masks) / sum(int((s != 0).sum()) for s in masks)

units = np.argsort(-(masks[0] != 0).sum(axis=0))[:7]  # the units of the first layer that see most

# %% jupyter={"source_hidden": true}
@plot.chart(9.5, 3.2, (2, 7), y=["mask s", *[""] * 6, "sign of W s", *[""] * 6], grid="", xticks=[], yticks=[],
            title=[f"unit {unit}" for unit in units] + [""] * 7)
def draw_fields(*panels):
    """Seven units, each as two maps of 8 x 8 pixels: above what is kept or inverted, below the sign of the effective
    weight.
    """
    for i, (ax, unit) in enumerate(zip(panels, [*units, *units])):
        field = masks[0] if i < 7 else np.sign(effective[0])
        ax.imshow(field[:, unit].reshape(8, 8), cmap=plot.mask_colours(), vmin=-1, vmax=1, interpolation="nearest")
    panels[0].figure.legend(plot.mask_legend(), ("above: kept; below: positive", "above: inverted; below: negative",
                                                 "hidden"), loc="outside lower center", ncols=3)


plot.show("09_fields", draw_fields)

# %% [markdown]
# Above, the mask of the seven units that see most, folded into the image: noise. Below, the signs of the same units'
# effective weights: connected patches of blue beside patches of orange. The units look for strokes here and emptiness
# there, as the first layer of any trained net would.
#
# Eyes see patterns everywhere, so let us count. Take all pairs of neighbouring pixels (left and right, above and below)
# that one unit sees both. In how many pairs do both have the same sign? For coins it is one half.

# %%
def agreement(signs):
    """(agreeing, all) pairs of neighbouring pixels that one unit sees both; signs (64, units)."""
    field = signs.reshape(8, 8, -1)
    pairs = [(field[1:], field[:-1]), (field[:, 1:], field[:, :-1])]
    both = sum(int(np.sum((a != 0) & (b != 0))) for a, b in pairs)
    return sum(int(np.sum(a * b > 0)) for a, b in pairs), both


agree = {"mask s": agreement(masks[0]), "frozen sign(W)": agreement(np.sign(frozen[0]) * (masks[0] != 0)),
         "sign(W s)": agreement(np.sign(effective[0]))}
for name, (equal, both) in agree.items():
    spread = 0.5 / math.sqrt(both)  # standard deviation of the share, if coins decided
    print(f"{name:15} {equal:4} of {both} pairs agree: {equal / both:.1%}, "
          f"{(equal / both - 0.5) / spread:+.1f} standard deviations from a coin's half")

# %% [markdown]
# There is no doubt. (That the first two counts are equal to the pair is chance; that both are near one half is not.)
# Mask and frozen weights are coins, each by itself; their product is not. It is like a secret and its key: only
# together do they say something. Keep this in mind when you look at a mask in a paper. What can be read from $s$ alone
# is *where* the net looks. *What it looks for* is in $W \cdot s$.
#
# ## 4. Dead units
#
# A unit without a weight in front of it gets 0 and gives $\text{ELU}(0) = 0$: it is **not fed**. A unit without a
# weight behind it may compute what it likes: it is **not heard**. Both are dead, they change nothing in the answer. And
# death spreads: a unit whose only listeners are dead is not heard either, and a unit that is fed by dead units only is
# not fed. So walk through the net once from the front for the first kind, once from the back for the second.

# %%
fed = [np.ones(64, bool)]  # every pixel is there
for s in masks:
    fed.append(((s != 0) & fed[-1][:, None]).any(axis=0))  # some weight comes from a unit that is fed
heard = [np.ones(10, bool)]  # every class is asked for
for s in reversed(masks):
    heard.insert(0, ((s != 0) & heard[0][None, :]).any(axis=1))  # some weight leads to a unit that is heard
alive = [a & b for a, b in zip(fed, heard)]

print("            all  not fed  not heard  alive")
for name, a, b in zip(("pixels", "units 1", "units 2", "classes"), fed, heard):
    print(f"{name:8} {len(a):6} {np.sum(~a):8} {np.sum(~b):10} {np.sum(a & b):6}")
useless = [int(((s != 0) & ~(a[:, None] & b[None, :])).sum()) for s, a, b in zip(masks, alive[:-1], alive[1:])]
print("weights in use that lead from or to a dead unit, by layer:", useless)
into, out = (masks[0] != 0).sum(axis=0), (masks[1] != 0).sum(axis=1)  # of the units of the first layer
together = np.corrcoef(into[alive[1]], out[alive[1]])[0, 1]
print(f"correlation of weights in front and behind, over the living units of the first layer: {together:.2f}")

# %% jupyter={"source_hidden": true}
@plot.chart(7.5, 4.6, x="weights in front of the unit (pixels that it sees); points are moved by up to 0.3",
            y="weights behind it (units that hear it)", legend="upper left")
def draw_units(ax):
    """Units as points, weights in front against weights behind: living ones as dots, dead ones as crosses near the
    axes.
    """
    moved = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 300))  # so that equal points do not cover each other
    for who, name, colour, marker, size in ((alive[1], "alive", BLUE, "o", 4.5), (~alive[1], "dead", ORANGE, "x", 6)):
        ax.plot(into[who] + moved[0, who], out[who] + moved[1, who], marker, color=colour, markersize=size, alpha=0.8,
                label=f"{name}: {who.sum()} units")


plot.show("09_units", draw_units)

# %% [markdown]
# Nearly half of the 300 units of the first layer are dead, and most dead units have neither a weight in front nor one
# behind. That is no coincidence: a unit that nobody hears gets no gradient, so nothing holds the scores in front of it
# against decay, and they go as well. And among the living, the more pixels a unit sees, the more listeners it has: the
# points lie along a line. The mask has chosen the *width* of the net, too; nobody told it to.
#
# If dead units change nothing, we can take them out, and the pixels that nobody sees with them. What is left is a
# smaller dense net with many zeros.

# %%
small = [w[np.ix_(a, b)] for w, a, b in zip(effective, alive[:-1], alive[1:])]
small_logits = logits(small, x[:, alive[0]])  # only the pixels that are seen
gap = np.abs(small_logits - logits(effective, x)).max()
print("shapes", *[w.shape for w in effective], "->", *[w.shape for w in small])
print(f"multiplications per image {sum(w.size for w in effective):,} -> {sum(w.size for w in small):,}; "
      f"nonzero among them {sum(int(np.count_nonzero(w)) for w in small):,}")
print(f"largest difference of a logit {gap:.0e} (sums in another order round otherwise), the same answers: "
      f"{np.array_equal(small_logits.argmax(axis=1), logits(effective, x).argmax(axis=1))}")

# %% [markdown]
# ## 5. Sabotage
#
# Is all this important to the net, or could it be otherwise just as well? The honest test is to break it, in one
# respect at a time.
#
# - **Inverted becomes kept**: positions stay, signs are those of the coins.
# - **Inverted becomes hidden**: half of the weights stay, all of them right.
# - **Shuffled rows**: every unit of a layer keeps its number of weights, kept and inverted, but sees them in other
#   places.
# - **New coins**: the mask stays, the frozen weights are drawn anew.

# %%
chance = np.random.default_rng(1)
sabotaged = {
    "untouched": masks,
    "inverted becomes kept": [np.abs(s) for s in masks],
    "inverted becomes hidden": [np.maximum(s, 0) for s in masks],
    "shuffled rows": [chance.permuted(s, axis=0) for s in masks],
}
fates = {name: accuracy([w * s for w, s in zip(frozen, changed)]) for name, changed in sabotaged.items()}
fates["new coins"] = accuracy([w * s * chance.choice([-1, 1], w.shape) for w, s in zip(frozen, masks)])
for name, right in fates.items():
    print(f"{name:24} accuracy {right:6.1%}")

# %% [markdown]
# Guessing gives 10 %. Places and signs are both needed, and a mask belongs to the very weights that it was trained on.
#
# The third line is a surprise. With all inverted weights hidden, half of the net is gone, without any further training,
# and most digits are still recognised. Half of a message, all of it true, is worth far more than the whole message with
# half of it reversed. It also suggests that one could do without inverting, if one trained for that. Lesson 10 does.
#
# ## 6. The claims of this lesson

# %%
assert same_logits < 1e-3 and accuracy(effective) > 0.96
assert 0.45 < inverted < 0.55, "half of what is in use is inverted"
share = {name: equal / both for name, (equal, both) in agree.items()}
assert 0.42 < share["mask s"] < 0.58 and 0.42 < share["frozen sign(W)"] < 0.58, "mask and coins alone are noise"
assert share["sign(W s)"] > 0.75, "their product is not"
assert np.sum(~alive[1]) > 60, "whole units die"
neither = np.sum(~fed[1] & ~heard[1])
assert neither > 0.6 * np.sum(~alive[1]), "who is not heard is not fed either, mostly"
assert together > 0.7, "who sees much is heard by many"
assert gap < 1e-3, "a smaller net, the same answers"
assert sum(w.size for w in small) < 0.7 * sum(w.size for w in effective)
assert max(fates["inverted becomes kept"], fates["shuffled rows"], fates["new coins"]) < 0.45, "signs and places count"
assert fates["new coins"] + 0.1 < fates["inverted becomes hidden"] < fates["untouched"], "half of a message says much"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson09.py`; `pytest -m lesson09` marks them, `pytest -m lesson09 -k task1` one.
#
# 1. **`inverted_share(mask)`**: of the weights in front of each unit that are in use, how many are inverted?
# 2. **`dead_units(masks)`**: the units of every hidden layer that are not fed or not heard.
# 3. **`compact(weights)`**: the same net without its dead units, for any number of layers.
#
# To think about, without marking: the standard deviation of `inverted_share` over the units of the first layer is much
# larger than coins would make it, at the given number of weights per unit... or is it? Work out what coins would give.
#
# ## Further reading
#
# Vivek Ramanujan, Mitchell Wortsman, Aniruddha Kembhavi, Ali Farhadi and Mohammad Rastegari, *What's Hidden in a
# Randomly Weighted Neural Network?*, CVPR 2020, [arXiv:1911.13299](https://arxiv.org/abs/1911.13299). The same question
# asked of much larger nets; its edge-popup is one of the relatives of the next lesson.
#
# Next: `10_relatives.py` trains the relatives.
