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
# # A dense net, by hand and by layer
#
# **You will build** the same network twice: first with nothing but NumPy, every product and every gradient written out;
# then from layers that know how to do that by themselves. At the end the handwritten one learns to keep, hide and
# invert, and it takes two more lines.
#
# **You will learn**
# - what a dense layer computes, forwards and backwards, with the shape of everything;
# - what has to be remembered on the way forward for the way back, and what the way back costs;
# - one step of SGDW, the optimizer of the paper, line by line;
# - what a layer is: an operation with a memory for weights; and what `train.fit` does for you;
# - that nothing is hidden: both nets go through the same numbers, step by step.
#
# **You need to know** matrix products, lesson 01 (cotangent, pullback), and what a score and a mask are (lesson 00).
#
# **It takes** about 45 minutes to read. The computer needs less than 10 seconds, some more if it is busy.

# %%
import numpy as np

import minimask
from minimask import Tensor, models, nn, ops, optim, plot, train
from minimask.mask import SignedSupermask, Trained

# %% [markdown]
# ## 1. A layer is a matrix product
#
# A batch of $n$ digits is a matrix $X$ with a row for each digit, 64 pixels long. A dense layer with 100 units has a
# matrix $W$ with a column for each unit, and computes all units of all digits at once:
#
# $$Z = X W, \qquad (n, 64)\,(64, 100) \to (n, 100), \qquad Z_{ku} = \sum_p X_{kp} W_{pu} .$$
#
# Row times column: unit $u$ of digit $k$ is the scalar product of the pixels of $k$ with the weights of $u$. No layer
# of this method has a bias, so that is all. Between the layers every number goes through an ELU. Without it, the
# product of three matrices would be a single matrix, and three layers could do no more than one:
#
# $$H = \operatorname{ELU}(Z) = \begin{cases} Z & Z > 0 \\ e^Z - 1 & Z \le 0 . \end{cases}$$
#
# Our net has the layers 64 to 100 to 50 to 10. The ten last numbers, the *logits*, are scores for the ten classes.

# %%
UNITS = (100, 50, 10)
dataset = minimask.data.load("digits")
SEED = 0


def first_weights():
    """Three matrices, uniform with variance 1.5/inputs (the initialisation 'elu'; lesson 06 derives the 1.5)."""
    rng, inputs, weights = np.random.default_rng(SEED), 64, []
    for outputs in UNITS:
        bound = np.sqrt(3 * 1.5 / inputs)  # uniform on [-b, b] has the variance b^2 / 3
        weights.append(rng.uniform(-bound, bound, (inputs, outputs)))
        inputs = outputs
    return weights, rng  # rng goes on where the weights ended


weights, _ = first_weights()
for i, W in enumerate(weights, 1):
    print(f"W{i}: {W.shape!s:10} {W.size:6,} weights, variance {W.var():.4f}, 1.5 / inputs = {1.5 / W.shape[0]:.4f}")

# %% [markdown]
# ## 2. Forwards
#
# Nothing but the equations above. We write down one thing more: what went *into* each layer. The way back will ask
# for it.

# %%
def elu(Z):
    return np.where(Z > 0, Z, np.expm1(np.minimum(Z, 0)))  # H = Z where Z > 0, e^Z - 1 elsewhere


def forward(weights, X):
    """The logits of a batch, (n, 64) -> (n, 10), and what went into each layer."""
    inputs = []
    for W in weights:
        inputs.append(X)
        Z = X @ W  # Z = X W: (n, in) (in, out) -> (n, out)
        X = elu(Z)  # what goes into the next layer
    return Z, inputs  # no ELU after the last layer: logits may be anything


def cross_entropy(logits, labels):
    """The mean of -log p(right class), and its gradient: (n, 10), (n,) -> number, (n, 10)."""
    n = len(labels)
    shifted = logits - logits.max(axis=1, keepdims=True)  # cancels in p; keeps exp from overflowing
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -log_p[np.arange(n), labels].mean()  # L = -1/n sum_k log p_k,label
    G = np.exp(log_p)
    G[np.arange(n), labels] -= 1  # p - [class is the label]
    return loss, G / n  # dL/dlogits = (p - onehot) / n


X, labels = minimask.data.standardise(dataset.train_images[:128], "float64").reshape(-1, 64), dataset.train_labels[:128]
logits, inputs = forward(weights, X)
loss, _ = cross_entropy(logits, labels)
print("what goes into the layers:", [H.shape for H in inputs], "and the logits:", logits.shape)
print(f"loss {loss:.3f}; whoever guesses one of ten classes with the same probability each has {np.log(10):.3f}")

# %% [markdown]
# ## 3. Backwards
#
# We have $G = \partial L/\partial Z$ of the last layer, and walk back. At each layer two questions are asked, and each
# has a matrix product for an answer (lesson 01, section 5):
#
# $$\text{what do the weights get?}\quad \frac{\partial L}{\partial W} = X^\top G \qquad\qquad
# \text{what does the layer below get?}\quad \frac{\partial L}{\partial X} = G\, W^\top .$$
#
# Read $X^\top G$ entry by entry: $\sum_k X_{kp} G_{ku}$. A weight learns from the digits in which its pixel was bright
# *and* its unit was wanted to change. Then through the ELU, whose slope is 1 where $Z > 0$ and $e^Z$ elsewhere. We do
# not even need $Z$: where $Z \le 0$, $e^Z = H + 1$, and where $Z > 0$, $H > 0$. So
#
# $$\frac{\partial L}{\partial Z} = \frac{\partial L}{\partial H} \cdot \bigl(\min(H, 0) + 1\bigr) .$$
#
# And $H$ is what went into the next layer: we have it already.

# %%
def backward(weights, inputs, G):
    """dL/dW of every layer, from what went into each and from G = dL/dlogits."""
    gradients = []
    for W, X in zip(reversed(weights), reversed(inputs)):
        gradients.append(X.T @ G)  # dL/dW = X^T G: (in, n) (n, out) -> (in, out)
        G = G @ W.T  # dL/dX = G W^T: (n, out) (out, in) -> (n, in)
        G = G * (np.minimum(X, 0) + 1)  # through the ELU below: dL/dZ = dL/dH (min(H, 0) + 1)
    return gradients[::-1]


loss, G = cross_entropy(logits, labels)
gradients = backward(weights, inputs, G)
for i, gradient in enumerate(gradients, 1):
    print(f"dL/dW{i}: {gradient.shape}, norm {np.linalg.norm(gradient):.4f}")

# %% [markdown]
# (At the lowest layer there is no ELU below, and nobody wants $\partial L/\partial X$ of the pixels. We computed both
# for nothing; it keeps the loop short. minimask's engine asks first who wants a gradient.)
#
# Here is the whole walk with its shapes. The grey arrays are the price of the way back: they cannot be thrown away
# before it has passed. It is why training needs so much more memory than answering.

# %% jupyter={"source_hidden": true}
@plot.chart(10, 3.6, grid="", xlim=(-0.6, 9.9), ylim=(-1.75, 1.45))
def draw_walk(ax):
    """Boxes X, H1, H2, logits with arrows to the right, and below them their cotangents with dashed arrows to the
    left.
    """
    ax.set_axis_off()
    centre = {"ha": "center", "va": "center", "fontsize": 11}
    names, sizes = ("X", "H1", "H2", "logits"), (64, *UNITS)
    for i, (name, size) in enumerate(zip(names, sizes)):
        for y, text, colour in ((0.55, name, "#d9d9d9" if i < 3 else "white"), (-0.65, f"dL/d{name}", "white")):
            ax.text(3 * i, y, f"{text}\n(n, {size})", **centre,
                    bbox={"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "black"})
    for i, (activation, slope) in enumerate(((", ELU", "slope, "), (", ELU", "slope, "), ("", ""))):
        x, arrow = 3 * i + 1.5, {"arrowstyle": "-|>", "lw": 2}
        ax.annotate("", (x + 0.85, 0.55), (x - 0.9, 0.55), arrowprops={**arrow, "color": plot.KEPT})
        ax.annotate("", (x - 0.9, -0.65), (x + 0.75, -0.65), arrowprops={**arrow, "color": plot.INVERTED, "ls": "--"})
        ax.text(x, 0.74, f"@ W{i + 1}{activation}", **centre)
        ax.text(x, -0.46, f"{slope}@ W{i + 1}.T", **centre)
        ax.text(x, -1.42, f"dL/dW{i + 1} = {names[i]}.T @ G\n{sizes[i], UNITS[i]}", **centre)
    ax.annotate("", (9, -0.3), (9, 0.2), arrowprops={"arrowstyle": "-|>", "color": "#555555", "lw": 1.5})
    ax.text(9.1, -0.05, "loss", fontsize=11, va="center")
    ax.text(-0.5, 1.25, "forwards (solid): grey is remembered", fontsize=11, va="center")
    ax.text(4.6, 1.25, "backwards (dashed): G is dL/dZ, behind the slope", fontsize=11, va="center")


plot.show("05_walk", draw_walk)

# %% [markdown]
# What does it cost? A product $(n, i)(i, o)$ takes $n \cdot i \cdot o$ multiplications and additions. Forwards there is
# one such product a layer, backwards there are two of the same size: a training step costs three times as much as an
# answer. (Two times for the first layer, if one leaves out what nobody wants.)
#
# Is the gradient right? Two witnesses, as in lesson 04: differences along a random direction, and minimask's engine,
# which gets the same arrays.

# %%
rng = np.random.default_rng(1)
directions = [rng.standard_normal(W.shape) for W in weights]


def loss_at(step):
    moved = [W + step * d for W, d in zip(weights, directions)]
    return cross_entropy(forward(moved, X)[0], labels)[0]


slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
ours = sum(np.sum(gradient * d) for gradient, d in zip(gradients, directions))
print(f"slope along a random direction: differences {slope:.9f}, by hand {ours:.9f}")

leaves = [Tensor(W, requires_grad=True) for W in weights]
H = Tensor(X)
for W in leaves[:-1]:
    H = ops.elu(H @ W)
ops.cross_entropy(H @ leaves[-1], labels).backward()
apart = max(np.abs(leaf.grad - gradient).max() for leaf, gradient in zip(leaves, gradients))
print(f"largest difference from minimask's gradients: {apart:.1e}")

# %% [markdown]
# ## 4. One step of SGDW
#
# With a gradient, weights can be moved. The paper's optimizer is stochastic gradient descent with Nesterov momentum and
# *decoupled* weight decay. Per weight it remembers a velocity $v$, at first 0. One step, in this order:
#
# $$w \leftarrow (1 - \mathrm{wd})\, w, \qquad v \leftarrow \mu\, v - \mathrm{lr}\, g, \qquad
# w \leftarrow w + \mu\, v - \mathrm{lr}\, g .$$
#
# The first shrinks. The second lets the velocity forget a tenth ($\mu = 0.9$) and adds the new push: what many batches
# agree on grows, up to ten times; noise cancels. The third moves by the velocity as it will be *after* the coming step,
# that is Nesterov's idea. The order matters, and so does where `lr` stands: libraries differ in both, under one name.

# %%
LR, WD, MOMENTUM, BATCH, EPOCHS = 0.01, 5e-4, 0.9, 128, 12


def sgdw(w, v, g, lr=LR, wd=WD):
    """One step for one array: the new weights and the new velocity."""
    w = (1 - wd) * w  # w <- (1 - wd) w
    v = MOMENTUM * v - lr * g  # v <- mu v - lr g
    w = w + MOMENTUM * v - lr * g  # w <- w + mu v - lr g
    return w, v


def batches(rng):
    """The training set once, in a new order: images as the net wants them, and labels."""
    order = rng.permutation(len(dataset.train_images))  # a fresh shuffle every epoch
    for start in range(0, len(order), BATCH):
        chosen = order[start:start + BATCH]  # the last batch is a short one
        images = minimask.data.standardise(dataset.train_images[chosen]).astype("float64")
        yield images.reshape(-1, 64), dataset.train_labels[chosen]


# %% [markdown]
# All parts are there: weights, the way forward, the way back, the step. A training goes through the batches, and after
# each epoch we ask how many of the held-out digits the net gets right.

# %%
held_out = minimask.data.standardise(dataset.test_images).astype("float64").reshape(-1, 64)


def accuracy(weights):
    return np.mean(forward(weights, held_out)[0].argmax(axis=1) == dataset.test_labels)


def train_by_hand():
    weights, rng = first_weights()
    velocities = [np.zeros_like(W) for W in weights]
    losses, accuracies = [], [accuracy(weights)]
    for _ in range(EPOCHS):
        for X, labels in batches(rng):
            logits, inputs = forward(weights, X)
            loss, G = cross_entropy(logits, labels)
            gradients = backward(weights, inputs, G)
            for i, gradient in enumerate(gradients):
                weights[i], velocities[i] = sgdw(weights[i], velocities[i], gradient)
            losses.append(loss)
        accuracies.append(accuracy(weights))
    return weights, losses, accuracies


by_hand, hand_losses, hand_accuracies = train_by_hand()
print(f"after {EPOCHS} epochs by hand: loss of the last batch {hand_losses[-1]:.4f}, "
      f"held-out accuracy {hand_accuracies[-1]:.1%}")

# %% [markdown]
# That is a neural network, all of it, in about forty lines.
#
# ## 5. By layer
#
# Writing `forward` and `backward` for each new net is no fun. Two ideas remove all of it. The engine of lesson 01 knows
# the way back for every operation, so only the way forward is to be written. And a *layer* is an operation that carries
# its weights. Here are two, and a net is a list of them:

# %%
class OurDense:
    def __init__(self, W):
        self.weight = Tensor(W, requires_grad=True)

    def __call__(self, x):
        return x @ self.weight  # Z = X W; the engine knows the rest


class OurELU:
    def __call__(self, x):
        return ops.elu(x)


weights, _ = first_weights()
our_layers = [OurDense(weights[0]), OurELU(), OurDense(weights[1]), OurELU(), OurDense(weights[2])]
H = Tensor(X)
for layer in our_layers:
    H = layer(H)
ops.cross_entropy(H, labels).backward()
print("the gradients of our layers are those by hand:",
      all(np.allclose(layer.weight.grad, gradient, rtol=1e-10, atol=1e-14)
          for layer, gradient in zip(our_layers[::2], gradients)))

# %% [markdown]
# `minimask.nn` has the same, a little more careful: `Dense`, `ELU`, `Flatten`, and `Sequential` for the list, which
# checks the shapes when the net is built. `models.fcn` is a loop over them. Where the weights come from is not the
# layer's business; it asks a *weight source*. `Trained` is a source whose weights are trained.

# %%
def first_net():
    """The package's net with the same first weights, and the generator, which goes on where they ended."""
    rng = np.random.default_rng(SEED)
    return models.fcn(Trained(init="elu"), rng, dataset.input_shape, units=UNITS, dtype="float64"), rng


net, _ = first_net()
print(net)
assert isinstance(net.layers["dense1"], nn.Dense)
for source, W in zip(net.weights().values(), first_weights()[0]):
    assert np.array_equal(source.effective().data, W), "the same seed should give the same weights"

# %% [markdown]
# Same seed, same weights, bit for bit. Now the same training: `train.fit` draws the shuffles from the same generator,
# makes the batches, and calls the four lines that every training step has. If our forty lines are right, it must go
# through the same numbers.

# %%
net, rng = first_net()  # a fresh net: run this cell twice, and it ends the same
optimizer = optim.SGDW(net.parameters(), lr=LR, wd=WD, momentum=MOMENTUM)
record = train.fit(net, dataset, optimizer, EPOCHS, rng, batch=BATCH)
layer_accuracies = [entry["test_accuracy"] for entry in record["epochs"]]
by_layer = [source.effective().data for source in net.weights().values()]
weights_apart = max(np.abs(a - b).max() for a, b in zip(by_hand, by_layer))
print(f"{optimizer.steps} steps; the weights by hand and by layer differ by {weights_apart:.0e} at most")
print("accuracies by hand ", [f"{a:.1%}" for a in hand_accuracies[-4:]])
print("accuracies by layer", [f"{a:.1%}" for a in layer_accuracies[-4:]])

# %% [markdown]
# ## 6. Keep, hide, invert: two more lines
#
# Now the method of this package, by hand. The weights $W$ are frozen, what is trained are scores $m$. Forwards, the
# layer multiplies with $W \cdot s(m)$ in place of $W$. Backwards, we know the gradient of that product, $X^\top G$, and
# by the declaration of lesson 02
#
# $$W_\text{eff} = W \cdot s(m), \qquad
# \frac{\partial L}{\partial m} := \frac{\partial L}{\partial s} = W \cdot \frac{\partial L}{\partial W_\text{eff}} .$$
#
# Everything else stays. `forward`, `backward` and `sgdw` are called as they are.

# %%
TAU, MASK_LR, MASK_WD, MASK_EPOCHS = 0.01, 0.05, 6e-3, 50


def step(m):
    return (m > TAU).astype(float) - (m < -TAU).astype(float)  # s = sign(m) where |m| > tau, else 0


def first_masks():
    """Frozen weights and scores of the three layers, and the generator, which goes on where they ended."""
    rng, inputs, frozen, scores = np.random.default_rng(SEED), 64, [], []
    for outputs in UNITS:
        c = np.sqrt(3 / inputs)  # 'elus', signed constant: +c or -c by the toss of a coin
        frozen.append(c * (2.0 * rng.integers(0, 2, (inputs, outputs)) - 1.0))
        b = np.sqrt(6 / (inputs + outputs))  # 'xavier', uniform
        scores.append(rng.uniform(-b, b, (inputs, outputs)))
        inputs = outputs
    return frozen, scores, rng


# %% [markdown]
# **By hand.** Compare the inner loop with that of section 4. Only two lines are new: the one that makes the effective
# weights, and the one that turns their gradient into that of the scores.

# %%
def train_masks_by_hand():
    frozen, scores, rng = first_masks()
    velocities, course = [np.zeros_like(m) for m in scores], []
    for _ in range(MASK_EPOCHS):
        for X, labels in batches(rng):
            effective = [W * step(m) for W, m in zip(frozen, scores)]  # W_eff = W s(m)
            logits, inputs = forward(effective, X)
            gradients = backward(effective, inputs, cross_entropy(logits, labels)[1])
            for i, gradient in enumerate(gradients):
                g = frozen[i] * gradient  # dL/dm := W dL/dW_eff
                scores[i], velocities[i] = sgdw(scores[i], velocities[i], g, MASK_LR, MASK_WD)
        effective = [W * step(m) for W, m in zip(frozen, scores)]
        left = sum(np.count_nonzero(W) for W in effective) / sum(W.size for W in effective)
        course.append((accuracy(effective), left))
    return scores, np.array(course)


hand_scores, hand_course = train_masks_by_hand()
print(f"by hand:  accuracy {hand_course[-1, 0]:.1%} with {hand_course[-1, 1]:.1%} of the weights")

# %% [markdown]
# **By layer.** The same net as in section 5, from another weight source, and the same `train.fit`.

# %%
rng = np.random.default_rng(SEED)
masked = models.fcn(SignedSupermask(tau=TAU), rng, dataset.input_shape, units=UNITS, dtype="float64")
masked_record = train.fit(masked, dataset, optim.SGDW(masked.parameters(), lr=MASK_LR, wd=MASK_WD), MASK_EPOCHS, rng,
                          batch=BATCH)
layer_course = np.array([(e["test_accuracy"], e["weights_left"]) for e in masked_record["epochs"]])
print(f"by layer: accuracy {layer_course[-1, 0]:.1%} with {layer_course[-1, 1]:.1%} of the weights")

# %% [markdown]
# Are these two nets, or twice the same one? We compare every score, every mask, and below the whole course: the thin
# dashed line lies on the thick one.

# %%
layer_scores = [m.data for m in masked.parameters()]
scores_apart = max(np.abs(a - b).max() for a, b in zip(hand_scores, layer_scores))
masks_equal = all(np.array_equal(step(a), step(b)) for a, b in zip(hand_scores, layer_scores))
print(f"the scores differ by {scores_apart:.0e} at most; the masks are {'equal' if masks_equal else 'different'}")

# %% jupyter={"source_hidden": true}
@plot.chart(9, 3.6, 2, x="epoch", y=("held-out accuracy, %", "%"), title=("dense", "keep, hide, invert"),
            legend=("lower right", ""), ylim=(0, 103))
def draw_courses(left, right):
    """Accuracy by epoch of the dense net, left, and accuracy and weights left of the masked one, right: by hand and
    by layer coincide.
    """
    hand, layer = {"color": plot.INVERTED, "linewidth": 5}, {"color": plot.KEPT, "linewidth": 1.6, "linestyle": "--"}
    left.plot(100 * np.array(hand_accuracies), label="by hand", **hand)
    left.plot(range(1, EPOCHS + 1), 100 * np.array(layer_accuracies), label="by layer", **layer)
    epochs = range(1, MASK_EPOCHS + 1)
    right.plot(epochs, 100 * hand_course, **hand)
    right.plot(epochs, 100 * layer_course, **layer)
    for height, name in ((0.9, "accuracy"), (0.42, "weights left")):
        right.text(0.97, height, name, transform=right.transAxes, ha="right", va="top", fontsize=11)


plot.show("05_courses", draw_courses)

# %% [markdown]
# Look at what differs between a dense net and a supermask in *code*: a product with the mask on the way forward, a
# product with the frozen weights on the way back. All the rest, layers, loss, optimizer, loop, is the same, and in
# minimask it is the same code. That is what the weight source is for.
#
# Here is one more step of the dense net of section 5 as a page, to compare with section 3 pullback by pullback:

# %%
plot.step(net, minimask.data.standardise(dataset.train_images[:BATCH]), dataset.train_labels[:BATCH], optimizer,
          title="Lesson 05: one more step of the dense net", classes=dataset.classes).show("05_page")

# %% [markdown]
# ## 7. The claims of this lesson

# %%
assert abs(slope - ours) < 1e-7 * max(1, abs(slope)), "the gradient by hand should be the slope"
assert apart < 1e-12, "and minimask's"
assert len(hand_losses) == optimizer.steps == EPOCHS * 12
assert weights_apart < 1e-9, "both ways should end in the same weights"
assert np.allclose(hand_accuracies[1:], layer_accuracies), "and in the same answers"
assert hand_accuracies[0] < 0.3 and hand_accuracies[-1] > 0.93, "the handwritten net should learn the digits"
assert scores_apart < 1e-9 and masks_equal, "both supermasks should be the same"
assert np.allclose(hand_course, layer_course), "and have the same course"
assert hand_course[-5:, 0].mean() > 0.93 and hand_course[-1, 1] < 0.3, "less than a third of the weights should do"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write them in `exercises/lesson05.py`, where each is described in full, and let pytest mark them from the folder of
# the course (in a checkout: `tutorials/`): `pytest exercises/test_lesson05.py`, or one with `-k task1`.
#
# 1. **A masked layer.** `masked_dense(x, frozen, m, tau)`: value and pullback of a layer with a signed supermask, in
#    plain NumPy. *Hint: two cotangents, of $x$ and of the scores. Which weight does each of them see, $W$ or
#    $W_\text{eff}$?*
# 2. **The loss.** `cross_entropy(z, labels)`: loss and gradient, for logits of any size. *Hint: what happens to
#    $e^{1000}$, and to $\ln 0$? Section 2 knows a way round both.*
# 3. **A shortcut.** $y = x + \operatorname{ELU}(xw)$, the building block of a ResNet: value and pullback. *Hint: two
#    ways lead from $x$ to $y$. And where does the slope of the ELU come from, if its value is not what leaves the
#    layer?*
#
# ## Further reading
#
# David E. Rumelhart, Geoffrey E. Hinton and Ronald J. Williams, *Learning representations by back-propagating errors*,
# Nature 323 (1986), [doi:10.1038/323533a0](https://doi.org/10.1038/323533a0). Four pages: sections 1 to 3 of this
# lesson, as they became known to everybody.
#
# Next: `06_signal_size.py` asks how large the first random weights must be.
