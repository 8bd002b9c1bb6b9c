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
# # Broadcasting, and how to undo it
#
# **You will build** the part of an autograd engine that students get wrong most often: the sum that brings a cotangent
# back to the shape of an array that was stretched. First as a matrix, where one can see why; then in four lines.
#
# **You will learn**
# - the rule by which NumPy stretches arrays, in one sentence;
# - that stretching is a matrix of zeros and ones, and that its pullback is the transposed matrix;
# - how to test that with random numbers, whatever the shapes (the adjoint test);
# - why the engine undoes broadcasting once for all operations, and when an operation has to do it by itself;
# - two mistakes that broadcasting hides: no error, no warning, only a wrong result.
#
# **You need to know** NumPy arrays, what a matrix product is, and the words *cotangent* and *pullback* from lesson 01.
#
# **It takes** about 40 minutes to read. The computer needs less than 5 seconds.

# %%
import itertools

import numpy as np

from minimask import Tensor, engine, op, ops, optim, plot
from minimask.testing import gradcheck

# %% [markdown]
# ## 1. The rule
#
# A network adds a row of 100 numbers to a batch of 128 rows, or divides an image by one number. Shapes differ, and
# NumPy stretches the smaller array as if it were copied. The rule, in one sentence:
#
# > *Write the shapes one below the other, flush right; in each column the lengths must be equal, or one of them is 1
# > or missing, and that one is stretched.*
#
# Flush **right** is the point. A row `(4,)` fits under a matrix `(3, 4)`; a column must be written as `(3, 1)`.

# %%
for a, b in (((3, 4), (4,)), ((3, 4), (3, 1)), ((3, 1), (4,)), ((2, 1, 4), (3, 1)), ((3, 4), ()), ((3, 4), (3,))):
    try:
        print(f"{a!s:9} and {b!s:6} -> {np.broadcast_shapes(a, b)}")
    except ValueError:
        print(f"{a!s:9} and {b!s:6} do not fit")

# %% [markdown]
# Here is the third line as a picture: a column and a row are added. Follow one entry of the column: it is used four
# times. One of the row: three times. Remember "used", it is the key to the gradient.

# %%
column, row = np.array([[10.0], [20.0], [30.0]]), np.array([1.0, 2.0, 3.0, 4.0])

# %% jupyter={"source_hidden": true}
@plot.chart(9, 2.9, 3, x="column j", y="row i", grid="", xticks=range(4), yticks=range(3), ylim=(2.5, -0.5), aspect=1,
            title=("the column (3, 1), stretched", "the row (4,), stretched", "their sum (3, 4)"))
def draw_copies(*panels):
    """Three tables of 3 x 4 numbers: a column and a row, stretched, their copies in grey, and the sum of both."""
    there = (np.arange(4) == 0, np.arange(3)[:, None] == 0, True)  # which numbers are no copies
    for ax, values, real in zip(panels, (column, row, column + row), there):
        values, real = np.broadcast_to(values, (3, 4)), np.broadcast_to(real, (3, 4))
        ax.pcolormesh(np.arange(5) - 0.5, np.arange(4) - 0.5, 1.0 * real, cmap="Greys", vmin=0, vmax=4,
                      edgecolors="#999999")
        for i, j in np.ndindex(3, 4):
            ax.text(j, i, f"{values[i, j]:g}", ha="center", va="center", fontsize=13,
                    **({"weight": "bold"} if real[i, j] else {"color": "#666666"}))
        ax.tick_params(length=0)


plot.show("03_copies", draw_copies)

# %% [markdown]
# (Bold on grey: the numbers that are really there. The others are copies; NumPy does not even store them.)
#
# ## 2. Stretching is a matrix
#
# Each entry of the stretched array is a copy of exactly one entry of the original. Write both as long vectors, row by
# row, and the stretching is a matrix $B$ of zeros and ones, with a single 1 in each row:
#
# $$\operatorname{vec}(y) = B\, \operatorname{vec}(x), \qquad
# B_{kl} = \begin{cases} 1 & \text{entry } k \text{ of } y \text{ is a copy of entry } l \text{ of } x \\
# 0 & \text{else.}\end{cases}$$
#
# To find out who is a copy of whom, we let NumPy stretch the *numbers* of the entries.

# %%
def copy_matrix(shape, target):
    """B: one row per entry of `target`, one column per entry of `shape`."""
    size = int(np.prod(shape))
    source = np.broadcast_to(np.arange(size).reshape(shape), target).ravel()  # entry k of y copies entry source[k]
    return (source[:, None] == np.arange(size)).astype(float)  # B_kl = 1 where l = source[k]


B = copy_matrix((3, 1), (3, 4))
print("B for (3, 1) -> (3, 4) is", B.shape, "and has", int(B.sum()), "ones")
assert np.array_equal(B @ column.ravel(), np.broadcast_to(column, (3, 4)).ravel())  # vec(y) = B vec(x)

# %% [markdown]
# Now the pullback writes itself. The loss depends on $x$ only through $y = Bx$, so by the chain rule
#
# $$\frac{\partial L}{\partial x_l} = \sum_k \frac{\partial L}{\partial y_k} \frac{\partial y_k}{\partial x_l}
# = \sum_k g_k\, B_{kl}, \qquad\text{that is}\qquad g_x = B^\top g .$$
#
# A column of $B$ has a 1 for each copy of that entry. So $B^\top g$ says: **every entry collects what arrives at all
# of its copies.** It is lesson 01's rule for the diamond, *sum over all uses*, once more.

# %%
g = np.arange(1.0, 13.0).reshape(3, 4)
print("cotangent g of the sum:\n", g)
print("of the column, B^T g:", copy_matrix((3, 1), (3, 4)).T @ g.ravel(), "  sums over each row:   ", g.sum(axis=1))
print("of the row,    B^T g:", copy_matrix((4,), (3, 4)).T @ g.ravel(), "  sums over each column:", g.sum(axis=0))

# %% jupyter={"source_hidden": true}
@plot.chart(9, 3.6, 3, x="entry of x", y=("entry of y", "", ""), grid="", yticks=range(12), ylim=(11.5, -0.5),
            title=("a column: (3, 1) -> (3, 4)", "a row: (4,) -> (3, 4)", "a number: () -> (3, 4)"))
def draw_matrices(*panels):
    """Three matrices of 12 rows, for a column, a row and a number: every row has one dark entry, at the number it
    copies.
    """
    for ax, shape in zip(panels, ((3, 1), (4,), ())):
        matrix = copy_matrix(shape, (3, 4))
        ax.pcolormesh(np.arange(matrix.shape[1] + 1) - 0.5, np.arange(13) - 0.5, matrix, cmap="Greys", vmin=0, vmax=1.3,
                      edgecolors="#bbbbbb", linewidth=0.6)
        ax.set_xticks(range(matrix.shape[1]))
        ax.tick_params(length=0)


plot.show("03_matrices", draw_matrices)

# %% [markdown]
# Read the pictures by columns: black cells in one column are the copies of one entry, and in the pullback they are
# added up. Read them by rows: one black cell each, in the forward direction nothing is added.
#
# ## 3. Without the matrix
#
# $B$ has an entry for every pair, far too many. But its structure is plain: the copies of an entry lie along whole
# axes. So $B^\top g$ is a sum over axes, and only two kinds of axis have to be summed:
#
# 1. axes that $x$ does not have (they were *added* on the left): sum, and the axis is gone;
# 2. axes on which $x$ has length 1 and $g$ has more (they were *stretched*): sum, and keep the axis with length 1.

# %%
def unbroadcast(g, shape):
    """The cotangent of an array of `shape` that was stretched to the shape of g: B^T g."""
    added = g.ndim - len(shape)
    g = g.sum(axis=tuple(range(added)))  # 1. axes that x does not have
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=stretched, keepdims=True)  # 2. axes on which x has length 1


# %% [markdown]
# Does it do the same as $B^\top$? There are only so many small shapes; we try all that stretch to `(2, 3, 4)`, and
# those that stretch to a shape which has a 1 itself. And the package has the same function; ours must agree with it
# to the last bit.

# %%
def shapes_that_stretch_to(target):
    """All of them: some axes missing on the left, any of the others with length 1."""
    for missing in range(len(target) + 1):
        yield from set(itertools.product(*((n, 1) for n in target[missing:])))


rng = np.random.default_rng(0)
tried = 0
for target in ((2, 3, 4), (2, 1, 3), (1, 1), (4,)):
    for shape in shapes_that_stretch_to(target):
        g = rng.integers(-9, 10, target).astype(float)  # whole numbers: sums are exact in any order
        ours = unbroadcast(g, shape)
        assert ours.shape == shape
        assert np.array_equal(ours.ravel(), copy_matrix(shape, target).T @ g.ravel()), (shape, target)
        assert np.array_equal(ours, engine.unbroadcast("ours", g, shape)), (shape, target)
        tried += 1
print(f"{tried} pairs of shapes: the sums are B^T g, and the package's")

# %% [markdown]
# ## 4. The adjoint test
#
# What if the matrix is too large to write down? There is a test that needs none. A matrix and its transpose belong
# together by
#
# $$\langle B x,\; g\rangle = \langle x,\; B^\top g\rangle \qquad\text{for all } x \text{ and } g ,$$
#
# and the left side needs only the forward direction. Random $x$ and $g$ of any size will do: if the two numbers agree,
# the pullback of a *linear* operation is right. (If it is wrong, they agree only by an accident of probability 0.)
# Let us also see what the test says about three plausible errors.

# %%
def forgets_to_sum(g, shape):
    return g[(0,) * (g.ndim - len(shape))][tuple(slice(0, n) for n in shape)]  # takes the first copy only


def takes_the_mean(g, shape):
    return unbroadcast(g, shape) * (np.prod(shape) / g.size)


def sums_all_added_axes_only(g, shape):
    return g.sum(axis=tuple(range(g.ndim - len(shape))))[tuple(slice(0, n) for n in shape)]


x, g = rng.standard_normal((300, 1)), rng.standard_normal((50, 300, 40))
forward = np.sum(np.broadcast_to(x, g.shape) * g)  # <B x, g>
adjoint_errors = {}
for f in (unbroadcast, forgets_to_sum, takes_the_mean, sums_all_added_axes_only):
    backward = np.sum(x * f(g, x.shape))  # <x, B^T g>
    adjoint_errors[f.__name__] = abs(forward - backward) / abs(forward)
    print(f"{f.__name__:25} <Bx, g> = {forward:.6f}, <x, B^T g> = {backward:.6f}")
print(f"(the matrix would have {x.size * g.size:,} entries)")

# %% [markdown]
# ## 5. Where an engine should do it
#
# Look at the pullback of a product, $z = xy$: $g_x = g\,y$. In `minimask/ops.py` it says just that, though $x$ may be a
# row and $g\,y$ a whole matrix. No operation there undoes its own broadcasting: the engine looks at the shape of each
# input, and sums what came back to that shape. One place, one function, for add, multiply, maximum, where, and for your
# own operations. (Lesson 01's engine does the same.)

# %%
leaves = {"matrix (3, 4)": Tensor(rng.standard_normal((3, 4)), requires_grad=True),
          "row (4,)": Tensor(rng.standard_normal(4), requires_grad=True),
          "column (3, 1)": Tensor(rng.standard_normal((3, 1)), requires_grad=True),
          "number ()": Tensor(np.array(2.0), requires_grad=True)}
product = 1.0
for leaf in leaves.values():
    product = leaf * product
cotangent = rng.standard_normal((3, 4))
product.backward(cotangent)
for name, leaf in leaves.items():
    others = np.prod([np.broadcast_to(other.data, (3, 4)) for other in leaves.values() if other is not leaf], axis=0)
    by_hand = unbroadcast(cotangent * others, leaf.shape)  # g_x = g y, then B^T
    print(f"{name:14} gradient {leaf.grad.shape!s:7} largest difference from ours "
          f"{np.abs(leaf.grad - by_hand).max():.1e}")
    np.testing.assert_allclose(leaf.grad, by_hand, rtol=1e-12)

# %% [markdown]
# ## 6. When an operation must do it itself
#
# The engine sees what goes into an operation and what comes out. What is stretched *inside* is the operation's own
# business. Take shares of a total, $y = x / \sum x$, over the last axis. The total $t$ is one number per row, and it is
# stretched to divide the row. Two ways lead from $x$ to $y$, so two terms come back, and the way through $t$ passes a
# stretching (undone by a sum over the row) and a sum (undone by a stretching: each is the other's transpose!):
#
# $$y_i = \frac{x_i}{t}: \qquad g_{x,i} = \frac{g_i}{t} + g_t, \qquad
# g_t = -\sum_i g_i \frac{x_i}{t^2} = -\frac1t \sum_i g_i\, y_i .$$

# %%
@op(register=False)  # register=False: only for this lesson, not for the package's table of operations
def share(xp, x):
    t = xp.sum(x, axis=-1, keepdims=True)  # (..., 1)
    y = x / t  # y_i = x_i / t
    return y, lambda g: ((g - xp.sum(g * y, axis=-1, keepdims=True)) / t,)  # g_x,i = (g_i - sum g y) / t


@op(register=False)
def share_without_the_total(xp, x):
    t = xp.sum(x, axis=-1, keepdims=True)
    return x / t, lambda g: (g / t,)  # forgets that t is made of x


x = rng.uniform(0.5, 2.0, (3, 4))
gradcheck(share, x)  # silent: it is right
try:
    gradcheck(share_without_the_total, x)
    refused = ""
except AssertionError as error:
    refused = str(error)
print(refused)

# %% [markdown]
# `keepdims=True` is what makes such lines safe. Without it, $t$ would have shape `(3,)` and fit under the *columns* of
# a 3 by 3 matrix: no error, and a wrong answer. That brings us to the dark side.
#
# ## 7. Two mistakes that broadcasting hides
#
# **A column minus a row.** Fit a line, $y = wx + b$, to 64 points. A layer returns predictions of shape `(64, 1)`; the
# targets came as `(64,)`. Their difference ought to be 64 numbers. By the rule it is `(64, 64)`: every prediction minus
# every target. The loss is a number, the gradient has the right shapes, the training runs.

# %%
N = 64
inputs = rng.uniform(-1, 1, (N, 1))
targets = (2.0 * inputs + 1.0 + 0.1 * rng.standard_normal((N, 1)))[:, 0]  # (64,): truth is w = 2, b = 1


def fit_line(targets):
    w, b = Tensor(np.zeros((1, 1)), requires_grad=True), Tensor(np.zeros(1), requires_grad=True)
    optimizer, losses = optim.SGD([w, b], lr=0.2), []
    for _ in range(100):
        residual = inputs @ w + b - targets  # (64, 1) - what shape?
        loss = ops.mean(residual * residual)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return w.item(), b.item(), losses, residual.shape


fits = {"targets (64, 1)": fit_line(targets[:, None]), "targets (64,)": fit_line(targets)}
for name, (w, b, losses, shape) in fits.items():
    print(f"{name:15} the residual is {shape!s:8} w = {w:+.3f}, b = {b:+.3f}, loss {losses[0]:.3f} -> {losses[-1]:.3f}")
print(f"mean of the targets {targets.mean():+.3f}, their variance {targets.var():.3f}")

# %% [markdown]
# The loss falls in both cases, so a glance at the curve would let it pass. But the second fit is a flat line. The mean
# over all pairs is smallest when *every* prediction is the mean of *all* targets, and the loss that remains is their
# variance. If your network always answers with the average, print the shapes first.

# %% jupyter={"source_hidden": true}
@plot.chart(9, 3.8, 2, x=("x", "step"), y=("y", "loss"), title=("the fitted lines", "both losses fall"))
def draw_fits(left, right):
    """Left two fitted lines through noisy points, right their losses by step on a log scale."""
    left.plot(inputs[:, 0], targets, ".", color="#999999", label="data")
    for (name, (w, b, losses, _)), colour, style in zip(fits.items(), (plot.KEPT, plot.INVERTED), ("-", "--")):
        left.plot([-1, 1], [b - w, b + w], color=colour, linestyle=style, linewidth=2.5, label=name)
        right.semilogy(losses, color=colour, linestyle=style, linewidth=2.5, label=name)
    left.set_xticks([-1, -0.5, 0, 0.5, 1])


plot.show("03_fits", draw_fits)

# %% [markdown]
# **An update without the sum.** Somebody writes the bias gradient as `g`, not as its sum. NumPy refuses `b -= g`:
# it cannot squeeze a matrix into a row. But `b = b - g` is fine: the *bias* becomes a matrix with a row per sample, and
# fits every batch of the same size. In minimask it cannot happen: a gradient has the shape of its tensor, always, and
# `t.data` takes no other shape.

# %%
bias, g = np.zeros(4), rng.standard_normal((3, 4))
bias = bias - 0.1 * g  # g where its sum over axis 0 was meant
print("the bias is now", bias.shape)

parameter = Tensor(np.zeros(4), requires_grad=True)
try:
    parameter.data = parameter.data - 0.1 * g
    message = ""
except ValueError as error:
    message = str(error)
print("minimask:", message)

# %% [markdown]
# ## 8. The claims of this lesson

# %%
assert tried > 20
assert adjoint_errors["unbroadcast"] < 1e-9 and min(adjoint_errors[f.__name__] for f in (
    forgets_to_sum, takes_the_mean, sums_all_added_axes_only)) > 0.01, "the adjoint test should tell them apart"
assert "share_without_the_total: the gradient of input 0, shape (3, 4), is wrong" in refused
w, b, losses, shape = fits["targets (64, 1)"]
assert shape == (N, 1) and abs(w - 2) < 0.1 and abs(b - 1) < 0.1, "the line should be found"
w, b, losses, shape = fits["targets (64,)"]
assert shape == (N, N) and abs(w) < 0.05 and abs(b - targets.mean()) < 0.05, "the average should be found"
assert losses[-1] < 0.7 * losses[0], "and the loss should fall nevertheless"
assert bias.shape == (3, 4) and "(3, 4) float64 cannot replace (4,) float64" in message
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write them in `exercises/lesson03.py`, where each is described in full, and let pytest mark them from the folder of
# the course (in a checkout: `tutorials/`): `pytest exercises/test_lesson03.py`, or one with `-k task1`.
#
# 1. **The rule.** `broadcast_shape(a, b)`: the shape to which two shapes stretch, without NumPy's help; a clear
#    `ValueError` where they do not fit.
# 2. **Scale and shift.** The last step of a batch norm, $y = x \cdot \gamma + \beta$ with one $\gamma$ and one $\beta$
#    per channel, and its three cotangents, each in the shape of its array. *Hint: whoever was stretched is summed, and
#    over which axes?*
# 3. **Centre.** $y = x - \operatorname{mean}(x)$ over the first axis, and its pullback. *Hint: section 6. Two ways lead
#    from $x$ to $y$. The matrix of this operation is its own transpose; does your pullback know?*
#
# ## Further reading
#
# Charles R. Harris and others, *Array programming with NumPy*, Nature 585 (2020),
# [doi:10.1038/s41586-020-2649-2](https://doi.org/10.1038/s41586-020-2649-2). Broadcasting among the handful of ideas
# that make NumPy what it is; figure 1 shows them all.
#
# Next: `04_add_an_op.py` adds an operation to the engine, and proves that it is right.
