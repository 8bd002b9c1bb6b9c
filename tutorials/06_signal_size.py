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
# # Signal size: how large random weights must be
#
# **You will build** the four initialisations of this package (Xavier, He, ELU, ELUS) from one formula, and a stack of
# 30 layers in which you can watch a signal live or die.
#
# **You will learn**
# - what one layer does to the size of a signal, as an equation in one line;
# - where the 1.5 of the ELU initialisation comes from, derived with pen and paper and checked in three ways;
# - why Xavier fades, ELUS explodes, and He does something in between, and that each can be predicted to a few percent;
# - why a masked net may want weights that are too large for an ordinary one.
#
# **You need to know** NumPy, what mean and variance are, and the normal distribution. Lesson 05 (a dense net by hand)
# helps; nothing of it is needed.
#
# **It takes** about 45 minutes to read. The computer needs less than 15 seconds, some more if it is busy.

# %%
import math

import numpy as np

import minimask
from minimask import MinimaskError, Tensor, init, models, ops, optim, plot, train
from minimask.mask import Trained

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. One layer
#
# A unit of a dense layer adds up its inputs, each times a weight, $z = \sum_{i=1}^{n} w_i x_i$ with $n$ = fan-in. How
# large is $z$? Not its sign, not its exact value, only its size. We measure size by the **second moment** $E[z^2]$.
#
# Before training the weights are random: independent of each other and of the inputs, with mean 0 and variance
# $\sigma_w^2$. Multiply out the square of the sum. Every mixed term $w_i x_i w_j x_j$ has mean 0, because $w_i$ has;
# the $n$ square terms remain:
#
# $$E[z^2] \;=\; n\, \sigma_w^2\, E[x^2] .$$
#
# Notice what this line does *not* need: it does not need the inputs to have mean 0, or to be independent, and it does
# not ask which distribution the weights have. Only their variance counts. Let us see whether that is true.

# %%
rng = np.random.default_rng(0)
WIDTH = 300
x = np.abs(rng.standard_normal((2000, WIDTH))) + 1  # inputs with a mean far from 0, on purpose
variance = 2 / WIDTH

print(f"formula: n * variance * E[x^2] = {WIDTH * variance * np.mean(x**2):.3f}")
for distribution, draw in init.DISTRIBUTIONS.items():
    w = draw((WIDTH, 2000), variance, rng)
    z = x @ w
    print(f"measured with {distribution:15} weights {np.mean(z**2):10.3f}")

# %% [markdown]
# Three distributions agree with the formula and with each other. The fourth, `constant`, has the same weight
# everywhere: its mean is not 0, the mixed terms do not cancel, and the signal is hundreds of times too large. Random
# *signs* are what the formula lives on. (So the paper's favourite, `signed_constant`, is as good as any: it has two
# values, $+c$ and $-c$, and $c^2$ is its variance.)
#
# A signal keeps its size through the layer if $n \sigma_w^2 = 1$. That is Xavier's rule for a layer with as many
# inputs as outputs. But a net of such layers alone would be one big matrix. Between them sits an activation, and the
# activation takes something away.
#
# ## 2. What the activation leaves
#
# Suppose $z$ is normal with mean 0 and variance 1: a sum of many independent things is close to that. After the
# activation the second moment is $E[f(z)^2]$. For ReLU, $f(z) = \max(z, 0)$, no calculation is needed: half of the
# $z$ are set to 0, and by symmetry they carried half of the second moment. $E[\text{ReLU}(z)^2] = 1/2$, so the weights
# must make up for it with $\sigma_w^2 = 2/n$. That is He's rule.
#
# For ELU, $f(z) = z$ for $z > 0$ and $e^z - 1$ below, we have to work. The positive half gives $1/2$ as before. The
# negative half is
#
# $$\int_{-\infty}^0 (e^z - 1)^2 \varphi(z)\, dz = \int_{-\infty}^0 \bigl(e^{2z} - 2 e^z + 1\bigr)\, \varphi(z)\, dz ,
# \qquad \varphi(z) = \tfrac{1}{\sqrt{2\pi}}\, e^{-z^2/2} .$$
#
# Each term is an integral that completing the square solves, since $kz - z^2/2 = k^2/2 - (z-k)^2/2$:
#
# $$\int_{-\infty}^0 e^{kz} \varphi(z)\, dz = e^{k^2/2}\, \Phi(-k) , \qquad \Phi \text{ the normal distribution
# function.}$$
#
# With $k = 2, 1, 0$:
#
# $$E[\text{ELU}(z)^2] = \tfrac12 + e^2\, \Phi(-2) - 2 \sqrt{e}\, \Phi(-1) + \tfrac12 .$$

# %%
def Phi(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))  # the normal distribution function


moment = 1 / 2 + math.exp(2) * Phi(-2) - 2 * math.exp(0.5) * Phi(-1) + 1 / 2
print(f"E[ELU(z)^2] = {moment:.6f}, and 1/E[ELU(z)^2] = {1 / moment:.4f}")

# %% [markdown]
# There it is: to keep the size, $n \sigma_w^2 \cdot 0.645 = 1$, hence $\sigma_w^2 = 1.55/n$. The paper rounds to
# $1.5/n$ and calls this the **ELU initialisation**. Never trust a derivation that you have not checked by another way.
# Here are two: the integral by adding up thin slices, and a million random numbers.

# %%
Z = np.linspace(-10, 10, 4_001)  # a fine grid: the normal density outside is below 1e-22
DENSITY = np.exp(-Z * Z / 2) / math.sqrt(2 * math.pi)


def elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def relu(z):
    return np.maximum(z, 0)


def second_moment(f, q=1.0):
    """E[f(z)^2] for z normal with mean 0 and variance q, by adding up slices of the integral."""
    return np.sum(f(math.sqrt(q) * Z) ** 2 * DENSITY) * (Z[1] - Z[0])


million = np.mean(elu(rng.standard_normal(1_000_000)) ** 2)
print(f"derived {moment:.6f}   slices {second_moment(elu):.6f}   a million numbers {million:.4f}")
print(f"the same for ReLU: slices {second_moment(relu):.6f}; for no activation {second_moment(lambda z: z):.6f}")

# %% jupyter={"source_hidden": true}
@plot.chart(8, 3.9, x="z", y="f(z)² · density of z", grid="", legend="upper center", ylim=(0, 0.33))
def draw_moment(ax):
    """f(z) squared times the normal density for f = z, ELU and ReLU: ELU has a small hump on the negative side, ReLU
    none.
    """
    shown = np.abs(Z) < 4.2
    z, density = Z[shown], DENSITY[shown]
    ax.plot(z, z**2 * density, color=GREY, linestyle=":", linewidth=2.5, label="f(z) = z: area 1")
    ax.fill_between(z, elu(z) ** 2 * density, color="#a8c4e0", linewidth=0)
    ax.plot(z, elu(z) ** 2 * density, color=BLUE, linewidth=2.5, label=f"ELU: area {moment:.3f}")
    ax.plot(z, relu(z) ** 2 * density, color=ORANGE, linestyle="--", linewidth=2.5, label="ReLU: area 0.5")
    ax.annotate("what ELU saves\nof the\nnegative half", (-1.3, 0.07), (-4.3, 0.17), fontsize=11,
                arrowprops={"arrowstyle": "->", "color": "#333333"})


plot.show("06_moment", draw_moment)

# %% [markdown]
# ## 3. Four rules, one formula
#
# Now the four schemes are one line each. With $n_\text{in}$ the fan-in and $n_\text{out}$ the fan-out:
#
# | scheme | variance | made for |
# |---|---|---|
# | Xavier (Glorot and Bengio 2010) | $2/(n_\text{in} + n_\text{out})$ | no activation, or tanh near 0 |
# | He (He et al. 2015) | $2/n_\text{in}$ | ReLU |
# | ELU (Koster et al. 2022) | $1.5/n_\text{in}$ | ELU |
# | ELUS, "scaled" (Koster et al. 2022) | $3/n_\text{in}$ | ELU, when about half of the weights are hidden |
#
# In a convolution, $n_\text{in}$ counts everything that one output adds up: window height times width times channels.
# A distribution then needs to know the variance only. For signed constants that is the square of the constant; for a
# uniform distribution on $[-b, b]$ the variance is $b^2/3$.

# %%
def my_draw(shape, rng, scheme, distribution):
    *window, n_in, n_out = shape  # dense (in, out); convolution (height, width, in, out)
    n_in, n_out = n_in * math.prod(window), n_out * math.prod(window)
    variance = {"xavier": 2 / (n_in + n_out), "he": 2 / n_in, "elu": 1.5 / n_in, "elus": 3 / n_in}[scheme]
    if distribution == "uniform":
        bound = math.sqrt(3 * variance)  # b^2 / 3 = variance
        return rng.uniform(-bound, bound, shape)
    if distribution == "normal":
        return math.sqrt(variance) * rng.standard_normal(shape)
    return math.sqrt(variance) * (2.0 * rng.integers(0, 2, shape) - 1)  # signed constant: c^2 = variance


compared = 0
for shape in ((784, 300), (3, 3, 64, 128)):
    for scheme in init.SCHEMES:
        for distribution in ("uniform", "normal", "signed_constant"):
            mine = my_draw(shape, np.random.default_rng(7), scheme, distribution)
            theirs = init.draw(shape, np.random.default_rng(7), scheme, distribution, dtype="float64")
            assert np.array_equal(mine, theirs), (shape, scheme, distribution)
            compared += 1
print(f"{compared} arrays of weights, each equal to minimask.init.draw's to the last bit")

# %% [markdown]
# ## 4. Thirty layers
#
# One layer that makes the signal 10 % larger does no harm. Thirty of them make it $1.1^{30} = 17$ times larger. Depth
# is merciless. We send 500 random inputs through 30 layers of 300 units, and note the second moment of $z$, before
# the activation, in every layer. On the way back we do the same for the gradient $g = \partial L/\partial z$. For the
# loss we take a random number times each output, so that the gradient starts at size 1.
#
# Backwards, the layer multiplies with $W^\top$ and the activation with its slope, $\text{ELU}'(z) = \min(\text{ELU}(z),
# 0) + 1$:
#
# $$g_\text{in} = \bigl(g\, W^\top\bigr) \cdot \text{ELU}'(z_\text{in}) .$$

# %%
DEPTH, SAMPLES = 30, 500


def through(weights, x):
    """Second moments of z in each layer, forwards, and of dL/dz in each layer, backwards; and dL/dx."""
    zs = []
    for w in weights:
        zs.append(x @ w)  # z = x W
        x = elu(zs[-1])  # x <- ELU(z)
    g = np.random.default_rng(1).standard_normal(zs[-1].shape)  # dL/dz of the last layer
    back = [np.mean(g**2)]
    for w, z in zip(weights[:0:-1], zs[-2::-1]):  # from the last layer to the second
        g = (g @ w.T) * (np.minimum(elu(z), 0) + 1)  # g_in = (g W^T) ELU'(z_in)
        back.append(np.mean(g**2))
    return np.array([np.mean(z**2) for z in zs]), np.array(back[::-1]), g @ weights[0].T


def stack(scheme, rng, distribution="signed_constant"):
    return [init.draw((WIDTH, WIDTH), rng, scheme, distribution, dtype="float64") for _ in range(DEPTH)]


rng = np.random.default_rng(2)
inputs = rng.standard_normal((SAMPLES, WIDTH))
sizes = {scheme: through(stack(scheme, rng), inputs)[:2] for scheme in init.SCHEMES}

print("scheme   E[z^2] in layer 1, 10, 20, 30                 dL/dz in layer 30, 20, 10, 1")
for scheme, (ahead, back) in sizes.items():
    print(f"{scheme:7}" + "".join(f"{ahead[i]:11.3g}" for i in (0, 9, 19, 29)) + "  "
          + "".join(f"{back[i]:10.3g}" for i in (29, 19, 9, 0)))

# %% [markdown]
# Only one of the four arrives as it left. Before we look closer: is our backward pass right? The engine of the package
# must find the same gradient of the inputs.

# %%
weights = stack("elu", np.random.default_rng(3))[:5]
leaf = Tensor(inputs[:20], requires_grad=True)
out = leaf
for w in weights[:-1]:
    out = ops.elu(out @ w)
out = out @ weights[-1]
out.backward(np.random.default_rng(1).standard_normal(out.shape))
by_hand = through(weights, inputs[:20])[2]
np.testing.assert_allclose(by_hand, leaf.grad, rtol=1e-10, atol=1e-12)
print("five layers by hand and by minimask: the gradients of the inputs agree, largest difference "
      f"{np.abs(by_hand - leaf.grad).max():.0e}")

# %% [markdown]
# ## 5. Predicting it
#
# Can we predict these curves without a single random number? If $z$ in one layer is normal with second moment $q$,
# then the next layer has
#
# $$q' = c \cdot E\bigl[\text{ELU}(\sqrt{q}\, z)^2\bigr] , \qquad c = n\, \sigma_w^2 ,\quad z \sim N(0, 1) .$$
#
# This is a map from a number to a number, and a net of 30 layers applies it 29 times. (The first layer has no
# activation before it: $q_1 = c$.) ReLU and the identity would only multiply $q$ by a constant. ELU is more
# interesting, since it changes its character with the size of the signal: near 0 it is almost the identity and takes
# nothing away; for large signals it is almost a ReLU and takes half.

# %%
FACTORS = {"xavier": 1.0, "he": 2.0, "elu": 1.5, "elus": 3.0}  # c = n * variance, here with n_in = n_out
STYLES = {"elus": ("black", "-."), "he": (ORANGE, "--"), "elu": (BLUE, "-"), "xavier": (GREY, ":")}  # in the pictures


def predict(c, depth=DEPTH):
    q = [c]  # inputs have second moment 1
    while len(q) < depth:
        q.append(c * second_moment(elu, q[-1]))  # q' = c E[ELU(sqrt(q) z)^2]
    return np.array(q)


predicted = {scheme: predict(c) for scheme, c in FACTORS.items()}
fixed = predict(1.5, 500)[-1]  # where the map with c = 1.5 comes to rest
pull = 1.5 * (second_moment(elu, fixed + 0.01) - second_moment(elu, fixed - 0.01)) / 0.02  # slope of the map there
print(f"c = 1.5 comes to rest at q = {fixed:.3f}; each layer leaves {pull:.0%} of the distance to it")
for scheme, q in predicted.items():
    ratio = sizes[scheme][0] / q
    print(f"{scheme:7} measured / predicted over 30 layers: {ratio.min():.2f} to {ratio.max():.2f}")

# %% jupyter={"source_hidden": true}
@plot.chart(9.5, 4.4, 2, x="layer", y=("E[z²], log scale", "mean of (dL/dz)², log scale"), yscale="log",
            title=("forwards: lines predicted, dots measured", "backwards: measured, read from right to left"),
            xticks=[1, 10, 20, 30])
def draw_depth(left, right):
    """Signal size by layer, forwards and backwards, on log scales: one scheme stays level, the others shrink or
    grow.
    """
    layers = np.arange(1, DEPTH + 1)
    for scheme, (colour, style) in STYLES.items():
        ahead, back = sizes[scheme]
        left.plot(layers, predicted[scheme], color=colour, linestyle=style, linewidth=2)
        left.plot(layers[::2], ahead[::2], "o", color=colour, markersize=4)
        left.text(DEPTH + 0.7, predicted[scheme][-1], scheme, va="center", fontsize=11)
        right.plot(layers, back, color=colour, linestyle=style, linewidth=2, marker="o", markersize=3)
        right.text(0.3, back[0], scheme, ha="right", va="center", fontsize=11)
    left.set_xlim(0, DEPTH + 7)
    right.set_xlim(-5, DEPTH + 1)


plot.show("06_depth", draw_depth)

# %% [markdown]
# The lines come from one integral, the dots from nine million multiplications an input. They agree well; what scatters
# is the luck of a single draw of weights, which a wider layer would average away.
#
# Four behaviours, and all four can be read off the map (it is drawn in the next section):
#
# - **Xavier**, $c = 1$: each layer loses a little. The smaller the signal, the less ELU takes, so the signal fades
#   more and more slowly, but it fades.
# - **ELU**, $c = 1.5$: the map has a fixed point. What is too large shrinks, what is too small grows. This is more than
#   "keeping the size": it is *stable*, and that is why rounding 1.55 to 1.5 does no harm. It moves the resting place
#   from 1 to 0.74. The pull is gentle, though: most of a deviation is still there in the next layer.
# - **He**, $c = 2$: for large $q$, ELU leaves $q/2 + 1/2$ (half of the signal, and $(-1)^2$ for the other half of the
#   units). Times 2 that is $q + 1$: the signal grows by up to 1 a layer (by less while it is small). Not exponentially,
#   but without end.
# - **ELUS**, $c = 3$: $q$ grows by half its size in every layer, exponentially. An ordinary net of 30 layers is lost.
#
# ## 6. Then why ELUS?
#
# Because a mask takes summands away. If a mask hides a weight with probability $1 - p$, independently of all else,
# then a layer's sum has $p\,n$ terms in place of $n$, and
#
# $$E[z^2] = p\, n\, \sigma_w^2\, E[x^2] .$$
#
# What counts is $c\,p$. With half of the weights hidden, the factor 3 of ELUS becomes 1.5, and we are back at the
# stable case. Inverting changes nothing here: $(-w)^2 = w^2$.

# %%
SHARES = (1.0, 0.75, 0.5, 0.25)
masked = {}
for p in SHARES:
    weights = [w * rng.choice([-1.0, 0.0, 1.0], w.shape, p=[p / 2, 1 - p, p / 2]) for w in stack("elus", rng)]
    masked[p] = through(weights, inputs)[0]
    print(f"ELUS with {p:4.0%} of the weights left: c p = {3 * p:.2f}, E[z^2] in layer 30 {masked[p][-1]:10.3g}, "
          f"predicted {predict(3 * p)[-1]:10.3g}")

# %% jupyter={"source_hidden": true}
@plot.chart(9.5, 4.2, 2, x=("E[z²] in one layer", "layer"), y=("E[z²] in the next", "E[z²], log scale"),
            title=("the map; grey line: no change", "ELUS, this share of the weights left"), legend="upper left")
def draw_masked(left, right):
    """Left the map from one layer's signal size to the next, crossing the grey line of no change; right sizes by
    layer for shares of weights.
    """
    q = np.linspace(0.01, 4, 60)
    for (scheme, (colour, style)), p in zip(STYLES.items(), SHARES):
        c = FACTORS[scheme]
        left.plot(q, [c * second_moment(elu, value) for value in q], color=colour, linestyle=style, linewidth=2,
                  label=f"c = {c:g} ({scheme})")
        right.semilogy(range(1, DEPTH + 1), masked[p], color=colour, linestyle=style, linewidth=2.2)
        right.text(DEPTH + 0.7, masked[p][-1], f"{p:.0%}", va="center", fontsize=11)
    left.plot([0, 4], [0, 4], color="#bbbbbb", linewidth=1.2)
    left.plot([fixed], [fixed], "o", color=BLUE, markersize=9)
    left.annotate("at rest", (fixed, fixed), (1.5, 0.35), fontsize=11, arrowprops={"arrowstyle": "->"})
    left.set(xlim=(0, 4), ylim=(0, 4))
    right.set(xlim=(0, DEPTH + 5), xticks=[1, 10, 20, 30])


plot.show("06_masked", draw_masked)

# %% [markdown]
# How many weights does a mask really hide? That depends on the threshold. Uniform scores on $[-b, b]$ lie above $\tau$
# with probability $1 - \tau/b$. With the rule of the published configurations, $\tau = 0.4\,b$, 60 % are left at the
# start and $c\,p = 1.8$. With $\tau = 0.01$ more than 90 % are left in the nets of this package, and $c\,p$ is near 3.
# Our nets have three layers, not thirty, so they do not mind. And later? A trained mask is anything but random, and
# what it leaves (some 4 %) is chosen well; the formula says nothing about it. It is a statement about the *start*.
#
# ## 7. Does it matter for training?
#
# Enough moments. We build dense nets of 30 layers, one for each scheme, train each for five epochs on the digits with
# the same settings, and see.

# %%
dataset = minimask.data.load("digits")
results = {}
for scheme in init.SCHEMES:
    rng = np.random.default_rng(0)
    deep = models.fcn(Trained(init=scheme, distribution="signed_constant"), rng, dataset.input_shape,
                      units=(100,) * (DEPTH - 1) + (10,))
    record = train.new_record()
    try:
        with np.errstate(all="ignore"):  # overflows are what we want to see; fit tells of them
            train.fit(deep, dataset, optim.SGDW(deep.parameters(), lr=0.01), 5, rng, record=record)
        end = ""
    except MinimaskError as error:
        end = f" ended by {str(error)[:64]}..."
    results[scheme] = [entry["train_loss"] for entry in record["epochs"]]
    print(f"{scheme:7} loss of each epoch {' '.join(f'{loss:6.3f}' for loss in results[scheme])}{end}")

# %% [markdown]
# With ELU initialisation the net of 30 layers trains. Xavier trains too, but it starts slowly: the signal of an image
# reaches the output at a hundredth of its size. ELUS is gone after a few steps. He is a borderline case: its signals
# and gradients are some ten times too large, which is too much for this learning rate. With a tenth of the rate it
# trains well. ELUS does not, and no single rate could suit layers whose gradients differ by a factor of hundreds.
#
# ## 8. The claims of this lesson

# %%
assert abs(moment - 0.644945) < 1e-6 and abs(second_moment(elu) - moment) < 1e-8 and abs(million - moment) < 0.01
assert abs(second_moment(relu) - 0.5) < 1e-8
last = {scheme: ahead[-1] for scheme, (ahead, _) in sizes.items()}
assert 0.4 < last["elu"] < 2, "ELU keeps the size"
assert last["xavier"] < 0.05 and last["elus"] > 1e4, "Xavier fades, ELUS explodes"
assert 5 < last["he"] < 100, "He grows, but not exponentially"
assert all(0.4 < (sizes[s][0] / predicted[s]).min() and (sizes[s][0] / predicted[s]).max() < 2.5 for s in sizes), \
    "one integral predicts thirty layers"
assert 0.7 < fixed < 0.8 and 0 < pull < 1, "with c = 1.5 there is a place to rest, and it attracts"
growth = np.diff(predict(2.0, 200))
assert 0.3 < growth.min() and growth.max() < 1 and growth[-1] > growth[0], "He grows by up to 1 a layer"
assert 0.3 < masked[0.5][-1] < 3 and masked[1.0][-1] > 1e4 and masked[0.25][-1] < 0.01, "half masked, ELUS is ELU"
assert 0.1 < sizes["elu"][1][0] < 10 and sizes["xavier"][1][0] < 0.1, "the gradient, too"
assert len(results["elu"]) == 5 and results["elu"][-1] < results["xavier"][-1], "ELU should train faster than Xavier"
assert len(results["elus"]) < 5, "ELUS should not survive thirty dense layers"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson06.py`; `pytest -m lesson06` marks them, `pytest -m lesson06 -k task1` one.
#
# 1. **`second_moment(f)`**: $E[f(z)^2]$ for a standard normal $z$ and any activation. What would the "1.5" be for tanh,
#    for the sigmoid, for $|z|$?
# 2. **`signed_elus(shape, rng, factor=3.0)`**: frozen weights as the paper draws them, for dense and convolutional
#    shapes.
# 3. **`signal_sizes(x, weights)`**: the second moment in front of every activation of a stack of layers.
#
# To think about, without marking: on its way back, the gradient of He grows fast in the first layers and slowly in the
# last. Why? (Hint: $E[\text{ELU}'(z)^2]$ depends on the size of $z$, too. What is it for very small, what for very
# large $z$?)
#
# ## Further reading
#
# Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, *Delving Deep into Rectifiers*, 2015,
# [arXiv:1502.01852](https://arxiv.org/abs/1502.01852), section 2.2: the argument of sections 1 and 2 for ReLU, forwards
# and backwards, on two pages.
#
# Next: `07_convolution.py` does the same layers with windows.
