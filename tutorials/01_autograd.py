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
# # Autograd: an engine for gradients, built from nothing
#
# **You will build** a reverse-mode differentiation engine on NumPy arrays, in at most 60 lines of code (we count them),
# and train a two-layer network with it.
#
# **You will learn**
# - what a *cotangent* and a *pullback* are, and why the chain rule runs backwards;
# - why the order of the walk matters, and what goes wrong with the obvious one;
# - what broadcasting does to a gradient;
# - how to test a gradient so that a wrong one cannot hide;
# - that the engine in `minimask` is the same thing with more care.
#
# **You need to know** Python, NumPy arrays, the derivative and the chain rule for functions of one variable, and what
# a matrix product is. Lesson 00 is not needed.
#
# **It takes** about 45 minutes to read. The computer needs less than 5 seconds.

# %%
import inspect

import numpy as np

import minimask
from minimask import Tensor, ops, optim, plot

# %% [markdown]
# ## 1. The chain rule by hand
#
# Take one weight $w$, one input $x$, one target $t$, and the loss
#
# $$L = (\tanh(w x) - t)^2 .$$
#
# A computer does this in small steps, each with a derivative that everybody knows:
#
# $$a = w x, \qquad y = \tanh a, \qquad r = y - t, \qquad L = r^2 .$$
#
# We want $dL/dw$. Start at the end, where we know the answer, $dL/dL = 1$, and go back one step at a time. Write $g_y$
# for $dL/dy$ and so on. This number, "how much does the loss change if *this* value changes", is called the
# **cotangent** of the value.
#
# $$g_r = 2 r, \qquad g_y = g_r, \qquad g_a = g_y\,(1 - y^2), \qquad g_w = g_a\, x .$$

# %%
w, x, t = 0.5, 2.0, 0.3

a = w * x  # forward: a = w x
y = np.tanh(a)  # y = tanh a
r = y - t  # r = y - t
loss = r * r  # L = r^2

g_r = 2 * r  # backward: g_r = 2 r
g_y = g_r  # g_y = g_r
g_a = g_y * (1 - y * y)  # g_a = g_y (1 - y^2)
g_w = g_a * x  # g_w = g_a x

h = 1e-6
slope = ((np.tanh((w + h) * x) - t) ** 2 - (np.tanh((w - h) * x) - t) ** 2) / (2 * h)
print(f"by hand {g_w:.10f}   by finite differences {slope:.10f}")
assert abs(g_w - slope) < 1e-8

# %% [markdown]
# Two things to notice, for all that follows rests on them.
#
# - Every backward line used only its own step: the cotangent from behind, and numbers that the forward step had at
#   hand. We call this little rule the **pullback** of the step: it takes the cotangent of the *value* and returns the
#   cotangents of the *inputs*.
# - The backward lines are the forward lines in reverse order.
#
# Why backwards? Going forwards, we would carry $d(\cdot)/dw$ along, and would need one walk *per weight*. Going
# backwards, one walk gives the derivative with respect to *every* weight. A network has many weights and one loss.
#
# ## 2. A value that remembers where it came from
#
# Let us hand the bookkeeping to the computer. A `Value` holds an array, and remembers two things: the inputs that it
# was computed from, and the pullback of the step. The operators `+` and `*` call the functions below the class, the
# first operations. Each is one short function: compute the value, say what the pullback is. With $g$ the cotangent of
# the value,
#
# $$z = x + y: \; g_x = g, \; g_y = g \qquad\qquad z = x y: \; g_x = g\,y, \; g_y = g\,x .$$

# %%
class Value:
    def __init__(self, data, inputs=(), pullback=None):
        self.data = np.asarray(data, dtype=np.float64)
        self.inputs, self.pullback = inputs, pullback  # () and None: a leaf, nobody computed it
        self.grad = None  # dL/d(self), after backward

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return multiply(self, other)


def add(x, y):
    return Value(x.data + y.data, (x, y), lambda g: (g, g))  # g_x = g, g_y = g


def multiply(x, y):
    return Value(x.data * y.data, (x, y), lambda g: (g * y.data, g * x.data))  # g_x = g y, g_y = g x


# %% [markdown]
# ## 3. In which order?
#
# We need a walk from the loss back to the leaves. The obvious one goes down recursively: give a value its cotangent;
# when a value is reached, pull, and go on with its inputs; what has been visited need not be visited again. Let us
# write just that.

# %%
def naive_backward(value, g, visited):
    """Pulls at the first visit. WRONG, as we are about to see."""
    value.grad = g if value.grad is None else value.grad + g
    if id(value) in visited or value.pullback is None:
        return
    visited.add(id(value))
    for input, input_g in zip(value.inputs, value.pullback(g)):
        naive_backward(input, input_g, visited)


# %% [markdown]
# First test: $b = a + a$, $c = b + b$. So $c = 4a$, and $dc/da$ must be 4.
#
# Second test, a *diamond* with a stem: $p = x \cdot x$, then two ways from $p$ to the end, $q = 2p$ and $r = 3p$, and
# $z = q + r$. So $z = 5x^2$, and at $x = 3$ the derivative $10x$ must be 30.

# %%
def two_doublings():
    a = Value(1.0)
    b = a + a
    c = b + b
    return a, c


def diamond():
    x = Value(3.0)
    p = x * x
    q = p * Value(2.0)
    r = p * Value(3.0)
    return x, q + r


naive = []
for build, wanted in ((two_doublings, 4), (diamond, 30)):
    leaf, end = build()
    naive_backward(end, np.float64(1.0), set())
    naive.append(float(leaf.grad))
    print(f"{build.__name__}: the naive walk says {leaf.grad:g}, right is {wanted}")

# %% [markdown]
# Both wrong. Follow the diamond: the walk goes from $z$ through $q$ to $p$ and pulls there, with the cotangent 2 that
# came through $q$. When the 3 arrives through $r$, $p$ has been visited, and the 3 goes no further. What reaches $x$ is
# $2 \cdot 2x = 12$, and $3 \cdot 2x = 18$ is lost.
#
# **The rule: a value may be pulled only when everything that it feeds has been pulled,** because its cotangent is the
# *sum* over all those ways:
#
# $$g_p = \sum_{\text{uses } k \text{ of } p} g_p^{(k)} .$$

# %% jupyter={"source_hidden": true}
@plot.chart(9, 3.8, 2, title=("pull at the first visit: wrong", "pull when the sum is complete: right"), grid="",
            xlim=(-0.6, 5.1), ylim=(-2.1, 1.5))
def draw_diamond(left, right):
    """The graph x, p, then q and r, then z, twice: pulled too early, with x at 12, and pulled in order, with x at
    30.
    """
    places = {"x": (0, 0), "p": (1.5, 0), "q": (3, 1), "r": (3, -1), "z": (4.5, 0)}
    first = {"z": "g = 1\npulled 1st", "q": "g = 1\npulled 2nd", "p": "g = 2\npulled 3rd\n+3: too late",
             "r": "g = 1\npulled 4th", "x": "g = 12"}
    complete = {"z": "g = 1\npulled 1st", "r": "g = 1\npulled 2nd", "q": "g = 1\npulled 3rd",
                "p": "g = 2 + 3\npulled 4th", "x": "g = 30"}
    for ax, notes, wrong in ((left, first, "px"), (right, complete, "")):
        ax.set_axis_off()
        for start, end in ("xp", "pq", "pr", "qz", "rz"):
            ax.annotate("", places[start], places[end],
                        arrowprops={"arrowstyle": "-|>", "color": "#555555", "lw": 1.5, "shrinkA": 15, "shrinkB": 15})
        for name, (i, j) in places.items():
            marker, colour, ink = ("s", plot.INVERTED, "black") if name in wrong else ("o", plot.KEPT, "white")
            ax.plot(i, j, marker, markersize=26, color=colour, markeredgecolor="black")
            ax.text(i, j, name, ha="center", va="center", fontsize=13, color=ink)
            ax.text(i - (0.25 if name == "p" else 0), j - 0.36, notes[name], ha="center", va="top", fontsize=10)


plot.show("01_diamond", draw_diamond)

# %% [markdown]
# There is another way out: pull at *every* visit, with just the part that arrived. That is right, because pullbacks
# are linear. But it walks every *path*, and $n$ doublings in a row have $2^n$ paths.

# %%
def pulls_along_every_path(value):
    """How many pulls a walk makes that does not wait; a leaf has nothing to pull."""
    return 1 + sum(pulls_along_every_path(input) for input in value.inputs) if value.inputs else 0


path_pulls = []
for n in range(1, 15):
    end = Value(1.0)
    for _ in range(n):
        end = end + end
    path_pulls.append(pulls_along_every_path(end))
print("doublings", list(range(1, 15)))
print("pulls    ", path_pulls)
assert path_pulls == [2**n - 1 for n in range(1, 15)]

# %% [markdown]
# A **topological order** is the cure: a list in which each value stands after all its inputs. Walked from the back, it
# reaches every value after all of its uses, and every value only once. A depth-first search writes such a list by
# itself, if a value is entered when it is *left*, not when it is reached: by then all its inputs are on the list.

# %%
def topological_order(value, order, seen):
    if id(value) not in seen:
        seen.add(id(value))
        for input in value.inputs:
            topological_order(input, order, seen)
        order.append(value)  # on leaving: all inputs stand before it
    return order


def backward(root, g):
    order = topological_order(root, [], set())
    for value in order:
        value.grad = np.zeros_like(value.data)
    root.grad = np.asarray(g, dtype=np.float64)
    for value in reversed(order):  # every use of the value has been pulled
        if value.pullback is not None:
            for input, input_g in zip(value.inputs, value.pullback(value.grad)):
                input.grad = input.grad + unbroadcast(input_g, input.data.shape)  # g_p = sum over its uses


# %% [markdown]
# One name in there is new: `unbroadcast`. It is the last idea.
#
# ## 4. Broadcasting, undone
#
# NumPy stretches arrays to fit. In $Z_{ij} = X_{ij} + b_j$ the row $b$ is used once per row of $X$. Each use sends back
# its part, so the cotangent of $b$ is the sum over all of them:
#
# $$g_{b,j} = \sum_i g_{Z,ij} .$$
#
# In general: sum over the axes that were added on the left, and over those that had length 1 and were stretched. This
# is the diamond's rule again, sum over all uses. We write it once, for all operations.

# %%
def unbroadcast(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))  # axes that broadcasting added
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True)  # axes that it stretched: g_b,j = sum_i g_Z,ij


# %% [markdown]
# The two tests from above, and a row that was added to a matrix:

# %%
for build, wanted in ((two_doublings, 4), (diamond, 30)):
    leaf, end = build()
    backward(end, 1.0)
    print(f"{build.__name__}: our walk says {leaf.grad:g}, right is {wanted}")
    assert leaf.grad == wanted

A, b = Value(np.ones((3, 2))), Value(np.array([10.0, 20.0]))
backward(A + b, np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
print("cotangent of b:", b.grad)
assert b.grad.tolist() == [1 + 3 + 5, 2 + 4 + 6]

# %% [markdown]
# ## 5. The operations of a network
#
# Three more, and we have a network. The matrix product $Z = XY$, with cotangent $G$ of the shape of $Z$:
#
# $$G_X = G\, Y^\top, \qquad G_Y = X^\top G .$$
#
# (To remember it: the shapes leave no other choice.) The hyperbolic tangent, $y = \tanh x$:
#
# $$g_x = g \cdot (1 - y^2) .$$
#
# And the softmax cross-entropy of a batch of $n$ rows of logits $z$, with right classes $c$:
#
# $$L = -\frac1n \sum_i \log p_{i,c_i}, \qquad p_{ik} = \frac{e^{z_{ik}}}{\sum_l e^{z_{il}}}, \qquad
# g_{z,ik} = g \cdot \frac{p_{ik} - [k = c_i]}{n} .$$
#
# Its pullback has a simple meaning: the probability that the network gave, minus the one that it should have given.

# %%
def matmul(x, y):
    return Value(x.data @ y.data, (x, y), lambda g: (g @ y.data.T, x.data.T @ g))  # G_X = G Y^T, G_Y = X^T G


Value.__matmul__ = matmul  # from here on X @ Y is matmul(X, Y)


def tanh(x):
    y = np.tanh(x.data)
    return Value(y, (x,), lambda g: (g * (1 - y * y),))  # g_x = g (1 - y^2)


def cross_entropy(z, labels):
    rows = np.arange(len(labels))
    e = np.exp(z.data - z.data.max(axis=1, keepdims=True))  # the shift cancels in p and keeps exp small
    p = e / e.sum(axis=1, keepdims=True)  # p_ik = e^z_ik / sum_l e^z_il

    def pullback(g):
        d = p.copy()
        d[rows, labels] -= 1  # p_ik - [k = c_i]
        return (g * d / len(labels),)

    return Value(-np.log(p[rows, labels]).mean(), (z,), pullback)  # L = -mean log p_i,c_i


# %% [markdown]
# That is the whole engine. We promised at most 60 lines, so let us count: every line with code on it, without comments,
# blank lines and docstrings.

# %%
def code_lines(*functions):
    """How many lines of source are neither blank nor only a comment. (Ours have no docstrings.)"""
    lines = [line.strip() for function in functions for line in inspect.getsource(function).splitlines()]
    return sum(1 for line in lines if line and not line.startswith("#"))


methods = [method for method in vars(Value).values() if inspect.isfunction(method)]
functions = [add, multiply, tanh, cross_entropy, topological_order, backward, unbroadcast]
lines = 1 + code_lines(*methods) + code_lines(*functions)  # 1 for the line "class Value:"
print(f"the engine has {lines} lines of code")
assert lines <= 60

# %% [markdown]
# ## 6. How to test a gradient
#
# A wrong gradient does not crash. The network even learns, only worse. So every pullback needs a test, and the witness
# is the definition of the derivative.
#
# To test each input by itself would take two evaluations per weight. A cheaper way tests them all at once: pick a
# random **direction** $d$, of the shape of the input, and compare the slope in that direction with what the pullback
# says,
#
# $$\frac{\langle c, f(x + h d)\rangle - \langle c, f(x - h d)\rangle}{2h}
# \;\approx\; \langle \text{pullback}(c), d\rangle .$$
#
# The value $f(x)$ may be a whole array, so we make a number of it first: its product with a **cotangent** $c$. If an
# entry of the gradient is wrong, a random direction will show it. It misses an error only if that error happens to lie
# at right angles to it, and the probability of that is zero.
#
# An operation with two inputs has two gradients, so it is tested on both sides.

# %%
def check(f, x, c, rng, h=1e-5):
    """How far the pullback of f is off along a random direction, relative to the slope there."""
    d = rng.standard_normal(x.shape)
    slope = np.sum(c * (f(Value(x + h * d)).data - f(Value(x - h * d)).data)) / (2 * h)
    leaf = Value(x)
    backward(f(leaf), c)
    return abs(slope - np.sum(leaf.grad * d)) / max(abs(slope), 1e-3)


rng = np.random.default_rng(1)
point, targets = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
row, stack, left, right = (Value(rng.standard_normal(shape)) for shape in (3, (2, 4, 3), (2, 4), (3, 2)))
for name, f in {"x + row": lambda x: x + row, "stack * x": lambda x: stack * x, "x * x": lambda x: x * x,
                "x @ right": lambda x: x @ right, "left @ x": lambda x: left @ x, "tanh": tanh,
                "cross_entropy": lambda x: cross_entropy(x, targets)}.items():
    c = rng.standard_normal(f(Value(point)).data.shape)
    error = check(f, point, c, rng)
    print(f"{name:14} relative error {error:.1e}")
    assert error < 1e-7

# %% [markdown]
# **Why must $c$ be random too?** Many people take $c = 1$ everywhere, that is, they test the *sum* of the outputs. Here
# is an operation for which that test sees nothing. A softmax gives probabilities, $\sum_k p_k = 1$, whatever its input.
# The sum of its outputs never changes, so with $c = 1$ the right answer *is* zero. A softmax whose pullback returns
# nothing but zeros passes:

# %%
def softmax(x):
    e = np.exp(x.data - x.data.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return Value(p, (x,), lambda g: (p * (g - (g * p).sum(axis=1, keepdims=True)),))  # g_x = p (g - sum g p)


def broken_softmax(x):
    return Value(softmax(x).data, (x,), lambda g: (np.zeros_like(g),))  # a pullback that forgot everything


ones, random = np.ones((4, 3)), rng.standard_normal((4, 3))
errors = {f.__name__: (check(f, point, ones, rng), check(f, point, random, rng)) for f in (softmax, broken_softmax)}
for name, (with_ones, with_random) in errors.items():
    print(f"{name:15} relative error with c of ones {with_ones:.1e}, with random c {with_random:.1e}")
assert errors["broken_softmax"][0] < 1e-6, "ones should not see the broken softmax"
assert errors["broken_softmax"][1] > 0.1, "a random cotangent should see it"
assert errors["softmax"][1] < 1e-7

# %% [markdown]
# **How small should $h$ be?** The formula itself is off by an amount that grows like $h^2$. The subtraction of two
# nearly equal numbers loses digits, and that error grows like $\varepsilon/h$, where $\varepsilon \approx 10^{-16}$ is
# the precision of float64. The best $h$ lies between, near $\varepsilon^{1/3} \approx 10^{-5}$. In float32, with
# $\varepsilon \approx 10^{-7}$, even the best is bad. So gradients are checked in float64.

# %%
hs = 10.0 ** np.arange(-12, 0.1, 0.5)
curves = {}
for dtype in ("float64", "float32"):
    place, direction = rng.standard_normal((2, 200)).astype(dtype)
    exact = np.mean((1 - np.tanh(place.astype("float64")) ** 2) * direction)
    curves[dtype] = []
    for h in hs:
        step = np.asarray(h, dtype) * direction
        difference = np.mean(np.tanh(place + step) - np.tanh(place - step), dtype=dtype)
        curves[dtype].append(abs(float(difference) / (2 * h) - exact) / abs(exact))
best = {dtype: hs[np.argmin(curve)] for dtype, curve in curves.items()}
print(", ".join(f"{dtype}: best h {best[dtype]:.0e}, error there {min(curves[dtype]):.0e}" for dtype in curves))

# %% jupyter={"source_hidden": true}
@plot.chart(6.5, 4, x="step h", y="relative error of the finite difference",
            title="too large: the formula errs; too small: the digits are lost")
def draw_steps(ax):
    """Error against step, both logarithmic: two curves shaped like a V; float64 reaches far lower, and at a smaller
    step.
    """
    ax.loglog(hs, curves["float64"], "o-", color=plot.KEPT, label="float64")
    ax.loglog(hs, curves["float32"], "s--", color=plot.INVERTED, label="float32")


plot.show("01_steps", draw_steps)

# %% [markdown]
# ## 7. Meet minimask's engine
#
# `minimask.Tensor` is our `Value`, and `minimask/ops.py` is full of functions like ours. To compare, we write the same
# two-layer net with both, give both the same weights and the same 64 digits, and ask both for gradients:
#
# $$H = \tanh(X W_1 + b), \qquad Z = H W_2, \qquad L = \text{cross-entropy}(Z, \text{labels}) .$$

# %%
dataset = minimask.data.load("digits")
images = minimask.data.standardise(dataset.train_images, "float64").reshape(-1, 64)
first = np.random.default_rng(0)
start = {"W1": first.standard_normal((64, 32)) / 8, "b": first.standard_normal(32) / 8,
         "W2": first.standard_normal((32, 10)) / np.sqrt(32)}
X, labels = images[:64], dataset.train_labels[:64]

ours = {name: Value(array) for name, array in start.items()}
H = tanh(Value(X) @ ours["W1"] + ours["b"])  # H = tanh(X W1 + b)
our_loss = cross_entropy(H @ ours["W2"], labels)  # Z = H W2, L = cross-entropy(Z, labels)
backward(our_loss, 1.0)

theirs = {name: Tensor(array.copy(), requires_grad=True) for name, array in start.items()}
H = ops.tanh(X @ theirs["W1"] + theirs["b"])
their_loss = ops.cross_entropy(H @ theirs["W2"], labels)
their_loss.backward()

print(f"loss: ours {our_loss.data:.12f}, minimask {their_loss.item():.12f}")
for name in start:
    difference = np.abs(ours[name].grad - theirs[name].grad).max()
    print(f"gradient of {name:2}: shape {ours[name].grad.shape}, largest difference {difference:.1e}")
    np.testing.assert_allclose(ours[name].grad, theirs[name].grad, rtol=1e-10, atol=1e-14)

# %% [markdown]
# Equal, up to the last digits. What does minimask have that our few lines have not? Read `minimask/engine.py` with this
# list beside you:
#
# - it asks once per operation which inputs want a gradient, and computes no other. (We computed one for the images.)
# - its depth-first search keeps a stack of its own. Ours is recursive, and Python stops recursion at a depth of about
#   1,000;
# - it frees the memories of each step as it goes back, and notices when an array was overwritten in between;
# - it works in float32 and with other array libraries, and its errors name the operation and the shapes.
#
# ## 8. One training step, seen from inside
#
# Now let us stand beside the engine and watch one step. This is our `Value` again; the list is our topological order,
# walked from the back.

# %%
names = {id(value): name for name, value in ours.items()}
order = topological_order(our_loss, [], set())
print("place  value          shape     size of its cotangent")
for place, value in reversed(list(enumerate(order))):
    rule = value.pullback.__qualname__.split(".")[0] if value.pullback else "leaf"
    label = f"{rule} {names.get(id(value), 'X') if rule == 'leaf' else ''}"
    print(f"{place:5}  {label:13}  {value.data.shape!s:8}  {np.linalg.norm(value.grad):.4f}")

# %% [markdown]
# The gradient is known, so we can take a step against it, with the learning rate $\eta$:
#
# $$w \leftarrow w - \eta\, g_w .$$
#
# How much will the loss fall? To first order, by $\eta \sum_w \lVert g_w \rVert^2$: the length of the step times the
# slope. For a small $\eta$ the prediction must come true. This is a good test of a whole training step.

# %%
def our_net(weights, X, labels):
    logits = tanh(Value(X) @ weights["W1"] + weights["b"]) @ weights["W2"]
    return cross_entropy(logits, labels), logits


print("    eta  predicted fall    actual fall")
for eta in (1.0, 0.1, 0.01, 0.001):
    moved = {name: Value(value.data - eta * value.grad) for name, value in ours.items()}  # w <- w - eta g_w
    predicted = eta * sum(np.sum(value.grad**2) for value in ours.values())  # eta * sum ||g_w||^2
    actual = our_loss.data - our_net(moved, X, labels)[0].data
    print(f"{eta:7}  {predicted:14.6f} {actual:14.6f}")
assert abs(actual / predicted - 1) < 0.01

# %% [markdown]
# ## 9. Train, twice
#
# Many such steps are training. We do 300 with our engine, and the same 300 with minimask: `optimizer.step()` is
# $w \leftarrow w - \eta g_w$, and `zero_grad()` forgets the old gradients, which minimask would otherwise add up.

# %%
ETA, STEPS, BATCH = 0.3, 300, 64


def train_ours(rng):
    weights, losses = {name: Value(array) for name, array in start.items()}, []
    for _ in range(STEPS):
        chosen = rng.choice(len(images), BATCH, replace=False)
        loss, _ = our_net(weights, images[chosen], dataset.train_labels[chosen])
        backward(loss, 1.0)
        for value in weights.values():
            value.data = value.data - ETA * value.grad  # w <- w - eta g_w
        losses.append(float(loss.data))
    return weights, losses


# %% [markdown]
# With minimask the loop is the same; only the walk and the update have other names:

# %%
def train_minimask(rng):
    weights = {name: Tensor(array.copy(), requires_grad=True) for name, array in start.items()}
    optimizer, losses = optim.SGD(weights.values(), lr=ETA), []
    for _ in range(STEPS):
        chosen = rng.choice(len(images), BATCH, replace=False)
        H = ops.tanh(images[chosen] @ weights["W1"] + weights["b"])
        loss = ops.cross_entropy(H @ weights["W2"], dataset.train_labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # w <- w - eta g_w
        losses.append(loss.item())
    return weights, losses


# %% [markdown]
# Both get the same first weights and draw the same batches. If our engine is right, both take the same 300 steps.

# %%
our_weights, our_losses = train_ours(np.random.default_rng(5))
_, their_losses = train_minimask(np.random.default_rng(5))

held_out = minimask.data.standardise(dataset.test_images, "float64").reshape(-1, 64)
_, logits = our_net(our_weights, held_out, dataset.test_labels)
accuracy = np.mean(logits.data.argmax(axis=1) == dataset.test_labels)
apart = np.abs(np.subtract(our_losses, their_losses)).max()
print(f"held-out accuracy {accuracy:.1%} after {STEPS} steps; the two loss curves differ by {apart:.0e} at most")

# %% jupyter={"source_hidden": true}
@plot.chart(6.5, 3.8, x="training step", y="cross-entropy of the batch", title="the same 300 steps with two engines")
def draw_losses(ax):
    """The loss of 300 steps, log scale: the dashed curve of minimask lies on the wide one of our engine."""
    ax.semilogy(our_losses, color=plot.INVERTED, linewidth=3.5, label="our engine")
    ax.semilogy(their_losses, color=plot.KEPT, linewidth=1.2, linestyle="--", label="minimask")
    ax.grid(True, which="minor", alpha=0.15)


plot.show("01_losses", draw_losses)

# %% [markdown]
# ## 10. The claims of this lesson

# %%
assert naive == [2, 12], "the naive walk should get both wrong, and in this way"
assert lines <= 60, "the engine should have at most 60 lines"
assert errors["broken_softmax"][0] < 1e-6 < 0.1 < errors["broken_softmax"][1], "only a random cotangent sees it"
assert 1e-7 < best["float64"] < 1e-4 and min(curves["float64"]) < 1e-8 < 1e-7 < min(curves["float32"])
assert all(np.allclose(ours[name].grad, theirs[name].grad, rtol=1e-10, atol=1e-14) for name in start)
assert accuracy > 0.95, "our engine should learn the digits"
assert apart < 1e-9, "both engines should take the same 300 steps"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write them in `exercises/lesson01.py`, where each is described in full, and let pytest mark them from the folder of
# the course (in a checkout: `tutorials/`): `pytest exercises/test_lesson01.py`, or one with `-k task1`.
#
# 1. **The order.** `topological_order(root)` for graphs of any depth, that is, without recursion. *Hint: keep a stack
#    of pairs (value, iterator over its inputs). Take one input at a time from the iterator on top; when it is empty,
#    the value is left. Compare with `Tensor._tape_order` in `minimask/engine.py`.*
# 2. **The walk.** `backward(root, g)`: every value gets its cotangent, the sum over its uses, in every call afresh.
#    *Hint: an array may be the cotangent of two values at the same time (`add` returns `g` twice). Who writes into one
#    of them writes into both.*
# 3. **A new operation.** `elu(x)`: $x$ where $x > 0$, $e^x - 1$ elsewhere; value and pullback. Then put it into the net
#    of section 7 in place of `tanh`. *Hint: the slope is 1 or $e^x$, and $e^x$ is the value plus one.*
#
# **To explore**: put a factor 1.01 before one of the two gradients in `matmul`, switch off the asserts that now fail,
# and train as in section 9. Does the accuracy tell you? Does the check of section 6? Then decide which test you trust.
#
# ## Further reading
#
# Atılım Güneş Baydin, Barak A. Pearlmutter, Alexey Andreyevich Radul and Jeffrey Mark Siskind, *Automatic
# Differentiation in Machine Learning: a Survey*, Journal of Machine Learning Research 18 (2018),
# [arXiv:1502.05767](https://arxiv.org/abs/1502.05767). Forward and reverse mode, and how both came about.
#
# Next: `02_straight_through.py` trains something that has no slope at all.
