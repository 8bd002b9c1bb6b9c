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
# # Convolution is a matrix product
#
# **You will build** a convolution four times: from its definition, as a matrix product, with its gradients, and in
# blocks that fit into the processor's cache. The four give the same numbers and need very different times.
#
# **You will learn**
# - how windows become the rows of a matrix ("im2col");
# - why the gradients of a convolution are a matrix product and the *transpose* of taking windows;
# - why the gradient of the image is again a convolution, with the kernel turned around;
# - what all that costs in memory, and why working in blocks is faster: you will measure it and draw the picture.
#
# **You need to know** NumPy with several axes, and from lesson 01 what a pullback is: it takes $g = \partial L/\partial
# y$ and returns $\partial L/\partial x$.
#
# **It takes** about 50 minutes to read. The computer needs less than 20 seconds.

# %%
import math
import time
import tracemalloc

import numpy as np

import minimask
from minimask import Tensor, ops, plot
from minimask.engine import op
from minimask.fast import threads
from minimask.testing import gradcheck

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. The definition
#
# A dense layer connects every pixel with every unit. For images that is wasteful: an edge is an edge wherever it is. A
# convolution looks at the image through a small window, computes the same weighted sums in every place of the window,
# and so has few weights. With an image $x$ of $h \times w$ pixels and $C$ channels, a kernel $K$ of $k_h \times k_w$
# and $O$ output channels, in place $(i, j)$:
#
# $$y_{n,i,j,o} = \sum_{p=0}^{k_h-1} \sum_{q=0}^{k_w-1} \sum_{c=0}^{C-1} x_{n,\,i+p,\,j+q,\,c}\; K_{p,q,c,o} .$$
#
# (Mathematicians would turn the kernel around and call this a cross-correlation. The networks world does not.)
# Arrays here are laid out as in the whole package: images $(n, h, w, C)$, channels last; kernels $(k_h, k_w, C, O)$.
#
# The definition is easy to program, and nobody could misread it. So it will be our judge.

# %%
def by_definition(x, w):
    n, h, width, channels = x.shape
    kh, kw, _, outputs = w.shape
    y = np.zeros((n, h - kh + 1, width - kw + 1, outputs))
    for image, i, j, o in np.ndindex(y.shape):
        for p, q, c in np.ndindex(kh, kw, channels):
            y[image, i, j, o] += x[image, i + p, j + q, c] * w[p, q, c, o]
    return y


rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 6, 7, 3)), rng.standard_normal((3, 2, 3, 4))
start = time.perf_counter()
judge = by_definition(x, w)
seconds = time.perf_counter() - start
terms = judge.size * math.prod(w.shape[:3])
print(f"{x.shape} and {w.shape} -> {judge.shape}: {terms:,} multiplications in {1000 * seconds:.1f} ms")

big = 128 * 32 * 32 * 64 * 3 * 3 * 64
print(f"one layer of the paper's Conv2, a batch of 128: {big:,} multiplications, in these loops "
      f"{big * seconds / terms / 3600:.1f} hours")

# %% [markdown]
# ## 2. Windows are rows
#
# Look at the sum again. For a fixed place it is a scalar product: the numbers in the window, in some order, times the
# numbers of the kernel, in the same order. So write every window as a **row** of a matrix $A$, and every output channel
# of the kernel as a **column** of a matrix $W$. Then
#
# $$Y = A\, W , \qquad A: (n \cdot o_h \cdot o_w) \times (k_h k_w C), \qquad W: (k_h k_w C) \times O ,$$
#
# and $Y$ has a row for every place and a column for every output channel. With channels last, $W$ is the kernel itself
# under another shape: nothing has to be moved.
#
# How do we fill $A$? Not window by window, that would be loops again. All windows' upper left pixels together are one
# rectangle of the image: the slice that begins at $(0, 0)$. All their next pixels are the slice that begins at $(0,
# 1)$. So $k_h k_w$ shifted slices, put side by side, are all the windows.

# %%
def windows(x, kh, kw):
    """Every window as a row: (n, h, w, c) -> (n*oh*ow, kh*kw*c)."""
    n, h, width, c = x.shape
    oh, ow = h - kh + 1, width - kw + 1
    slices = [x[:, p:p + oh, q:q + ow, :] for p in range(kh) for q in range(kw)]  # kh*kw times (n, oh, ow, c)
    return np.concatenate(slices, axis=3).reshape(n * oh * ow, kh * kw * c)


def as_product(x, w):
    n, h, width, _ = x.shape
    kh, kw, _, outputs = w.shape
    y = windows(x, kh, kw) @ w.reshape(-1, outputs)  # Y = A W
    return y.reshape(n, h - kh + 1, width - kw + 1, outputs)


difference = np.abs(as_product(x, w) - judge).max()
with minimask.plain():  # the package's plain version, in conv.py
    ours = ops.conv2d(x, w, padding="valid").data
print(f"largest difference to the definition {difference:.0e}, of minimask's {np.abs(ours - judge).max():.0e}")
assert difference < 1e-13 and np.array_equal(ours, as_product(x, w))

# %% [markdown]
# On a small picture you can follow every number. The image has 4 by 4 pixels and one channel; pixels are numbered. The
# window is 2 by 3. It fits in 3 · 2 = 6 places, so $A$ has 6 rows of 6 numbers.

# %%
tiny = np.arange(16).reshape(1, 4, 4, 1)
A = windows(tiny, 2, 3)
print("how often each pixel occurs in A:", *np.bincount(A.ravel()).reshape(4, 4), sep="\n")

# %% jupyter={"source_hidden": true}
@plot.chart(8.6, 4, 2, x=("column", "entry of the window, row by row"), y=("row", "place of the window"), grid="",
            title=("the image, and two windows", "A: a window is a row"), aspect=1)
def draw_windows(left, right):
    """Left an image of 3 x 4 numbers with two windows outlined, right the matrix of all windows with their two rows
    outlined.
    """
    from matplotlib.patches import Rectangle

    for ax, values in ((left, tiny[0, :, :, 0]), (right, A)):
        rows, columns = values.shape
        ax.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, np.zeros(values.shape), cmap="Greys",
                      vmax=1, edgecolors="#bbbbbb", linewidth=0.6)
        for (i, j), value in np.ndenumerate(values):
            ax.text(j, i, str(value), ha="center", va="center", fontsize=13)
        ax.set(xticks=range(columns), yticks=range(rows), xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6))
    for number, colour, style in ((0, BLUE, "-"), (3, ORANGE, "--")):  # two windows and their rows
        i, j = divmod(number, 2)
        box = {"fill": False, "edgecolor": colour, "linestyle": style, "linewidth": 3.5}
        left.add_patch(Rectangle((j - 0.42, i - 0.42), 2.84, 1.84, **box))
        right.add_patch(Rectangle((-0.45, number - 0.42), 5.9, 0.84, **box))


plot.show("07_windows", draw_windows)

# %% [markdown]
# The last table is worth a thought: pixels in the middle occur often, the corners once. $A$ is a copy of the image with
# many repetitions. For a 3 by 3 kernel it is nine times as large as the image. Remember this for section 5.
#
# **"Same" padding.** With 3 by 3 windows the result is two pixels smaller than the image each way. To keep the size, a
# border of zeros is put around the image first. That is all there is to it, so we leave it out until we need it.
#
# ## 3. Backwards
#
# $Y = A W$ is a matrix product, and its pullback is that of every matrix product (lesson 05). With $G = \partial
# L/\partial Y$:
#
# $$\frac{\partial L}{\partial W} = A^\top G , \qquad \frac{\partial L}{\partial A} = G\, W^\top .$$
#
# The first is what we want for the kernel. The second is the gradient of the *windows*; we want that of the *image*. A
# pixel that was copied into nine windows acts through all nine, so its gradient is the **sum** over its nine copies.
# Taking windows copies by slices; its transpose adds by the same slices.

# %%
def windows_transpose(rows, shape, kh, kw):
    """Adds every entry of the windows back to the pixel that it came from: (n*oh*ow, kh*kw*c) -> shape."""
    n, h, width, c = shape
    oh, ow = h - kh + 1, width - kw + 1
    rows = rows.reshape(n, oh, ow, kh * kw, c)
    dx = np.zeros(shape)
    for entry, (p, q) in enumerate(np.ndindex(kh, kw)):
        dx[:, p:p + oh, q:q + ow, :] += rows[:, :, :, entry, :]  # += : windows overlap
    return dx


def pullback(x, w, g):
    kh, kw, _, outputs = w.shape
    G = g.reshape(-1, outputs)
    dw = (windows(x, kh, kw).T @ G).reshape(w.shape)  # dL/dW = A^T G
    dx = windows_transpose(G @ w.reshape(-1, outputs).T, x.shape, kh, kw)  # dL/dA = G W^T, added back
    return dx, dw


g = rng.standard_normal(judge.shape)
dx, dw = pullback(x, w, g)

leaves = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
ops.conv2d(*leaves, padding="valid").backward(g)
for name, mine, leaf in (("image", dx, leaves[0]), ("kernel", dw, leaves[1])):
    np.testing.assert_allclose(mine, leaf.grad, rtol=1e-12, atol=1e-13)
    print(f"gradient of the {name:6} {mine.shape}: equal to minimask's, largest difference "
          f"{np.abs(mine - leaf.grad).max():.0e}")

# %% [markdown]
# Is "transpose" just a manner of speaking? No. Taking windows is a linear map $\mathcal{A}$ from images to matrices,
# and its transpose is the one map with $\langle \mathcal{A} x, R \rangle = \langle x, \mathcal{A}^\top R \rangle$ for
# every image $x$ and every matrix $R$. That is a test with one line, and it finds any forgotten or misplaced slice.
# Central differences are a second, independent judge.

# %%
R = rng.standard_normal((2 * 4 * 6, 3 * 2 * 3))
one_side = np.sum(windows(x, 3, 2) * R)  # <A x, R>
other_side = np.sum(x * windows_transpose(R, x.shape, 3, 2))  # <x, A^T R>
print(f"<A x, R> = {one_side:.12f}\n<x, A^T R> = {other_side:.12f}")


@op(register=False)
def my_conv(xp, x, w):
    return as_product(x, w), lambda g: pullback(x, w, g)


gradcheck(my_conv, x, w)
print("central differences agree")

# %% [markdown]
# ## 4. The gradient of the image is a convolution, too
#
# Write the sum for one pixel of $\partial L/\partial x$. Pixel $(a, b)$ takes part in the result at $(i, j)$ with the
# weight at $(p, q) = (a - i, b - j)$:
#
# $$\frac{\partial L}{\partial x_{a,b,c}} = \sum_{p,q,o} g_{\,a-p,\,b-q,\,o}\; K_{p,q,c,o} .$$
#
# The signs are the other way round than in section 1: as the kernel index grows, the index into $g$ falls. So turn the
# kernel by 180 degrees, swap its input and output channels, put a border of $k_h - 1$ and $k_w - 1$ zeros around $g$,
# and the sum is a convolution. No adding back, no overlapping slices: whatever makes the forward pass fast makes this
# pass fast.

# %%
turned = w[::-1, ::-1].transpose(0, 1, 3, 2)  # (kh, kw, outputs, channels)
bordered = np.pad(g, ((0, 0), (2, 2), (1, 1), (0, 0)))  # kh - 1 = 2 rows, kw - 1 = 1 column
turned_dx = as_product(bordered, turned)
print(f"largest difference between both ways: {np.abs(turned_dx - dx).max():.0e}")

# %% [markdown]
# ## 5. What it costs
#
# The product does no superfluous multiplication, and matrix products are what computers do best. The catch is $A$. Take
# the second layer of the paper's Conv2: a batch of 128 images of 32 by 32 pixels with 64 channels, 3 by 3 windows,
# float32.

# %%
image_bytes = 32 * 32 * 64 * 4
windows_bytes = 9 * image_bytes
print(f"images of the batch    {128 * image_bytes / 1e6:6.1f} MB")
print(f"A for the whole batch  {128 * windows_bytes / 1e6:6.1f} MB")
print(f"A for one image        {windows_bytes / 1e6:6.1f} MB")
print(f"A for one row of one   {9 * 32 * 64 * 4 / 1e6:7.2f} MB")

# %% [markdown]
# 302 MB are written once and read once. No processor has a cache of that size, so they go to main memory and back,
# which is far slower than computing with them.
#
# But nothing forces us to build all of $A$ at once. The rows are independent of each other. We can take a **block** of
# rows, multiply it, forget it, and take the next, always in the same buffer. If the block is small enough, the buffer
# never leaves the cache: what is written there is still there when the product reads it.

# %%
def blocked(x, w, images, rows, spent=None):
    """'Same' 3x3 convolution, a block of `images` and `rows` of places at a time; `spent` takes processor seconds."""
    n, h, width, c = x.shape
    kh, kw, _, outputs = w.shape
    matrix = w.reshape(-1, outputs)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    buffer = np.empty((images, rows, width, kh * kw, c), x.dtype)
    y = np.empty((n, h, width, outputs), x.dtype)
    for first in range(0, n, images):
        for row in range(0, h, rows):
            start = time.thread_time()
            part = padded[first:first + images, row:row + rows + kh - 1]  # the last block may be smaller
            count, high = len(part), part.shape[1] - kh + 1
            a = buffer[:count, :high]
            for entry, (p, q) in enumerate(np.ndindex(kh, kw)):
                a[:, :, :, entry] = part[:, p:p + high, q:q + width]  # copy a slice of the windows
            copied = time.thread_time()
            y[first:first + count, row:row + high] = (a.reshape(-1, kh * kw * c) @ matrix).reshape(
                count, high, width, outputs)
            if spent is not None:
                spent[0] += copied - start
                spent[1] += time.thread_time() - copied
    return y


N = 32
x = rng.standard_normal((N, 32, 32, 64)).astype(np.float32)
w = (rng.standard_normal((3, 3, 64, 64)) / 24).astype(np.float32)
whole = blocked(x, w, N, 32)
error = max(np.abs(blocked(x, w, *block) - whole).max() for block in ((1, 32), (1, 8), (5, 32), (1, 7)))
print(f"blocks of an image, 8 rows, 5 images, 7 rows: largest difference to the whole batch {error:.0e}")

# %% [markdown]
# (5 does not divide 32, and 7 does not divide 32 rows: the last block is smaller. Whoever forgets it loses the end of
# the batch, and no error tells.)
#
# First the memory. `tracemalloc` counts every byte that NumPy asks for.

# %%
def peak(function, *arguments):
    """Megabytes that the call holds at most, beside what was there before."""
    tracemalloc.start()
    function(*arguments)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e6


peaks = {block: peak(blocked, x, w, *block) for block in ((N, 32), (1, 32), (1, 4))}
for (images, rows), megabytes in peaks.items():
    print(f"blocks of {images:2} image(s) x {rows:2} rows: {megabytes:6.1f} MB at most "
          f"({(x.nbytes + x.nbytes * 34 * 34 // 32**2) / 1e6:.1f} of them are the padded images and the result)")

# %% [markdown]
# Now the time, on one thread, split into copying the windows and multiplying them. We ask the clock of the processor,
# `time.thread_time`, which stands still while other programs have their turn. What they leave of the cache is another
# matter, so we measure each block size several times, in turn, and keep the smallest of each part.

# %%
BLOCKS = [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32), (2, 32), (4, 32), (8, 32), (16, 32), (32, 32)]
best = {block: np.full(2, np.inf) for block in BLOCKS}
with threads.blas_threads(1):
    for _ in range(5):
        for block in BLOCKS:
            spent = np.zeros(2)
            blocked(x, w, *block, spent)
            best[block] = np.minimum(best[block], spent)

megabytes = {(images, rows): images * rows * 32 * 9 * 64 * 4 / 1e6 for images, rows in BLOCKS}
print("block           windows    copying  multiplying     both")
for (images, rows), (copying, multiplying) in best.items():
    print(f"{images:2} x {rows:2} rows  {megabytes[images, rows]:7.2f} MB  {1000 * copying:6.1f} ms  "
          f"{1000 * multiplying:8.1f} ms  {1000 * (copying + multiplying):6.1f} ms")

# %% jupyter={"source_hidden": true}
@plot.chart(8.6, 4.4, x="block: rows of one image, or whole images; below it the MB of its windows",
            y=f"milliseconds for {N} images", grid="", legend="upper center", ncols=2)
def draw_blocks(ax):
    """Bars of milliseconds for eleven block sizes, from one row to 32 images: copying windows on top of multiplying."""
    copying, multiplying = 1000 * np.array(list(best.values())).T
    at = np.arange(len(BLOCKS))
    ax.bar(at, multiplying, color=BLUE, width=0.75, label="multiplying")
    ax.bar(at, copying, bottom=multiplying, color=ORANGE, width=0.75, hatch="//", edgecolor="white",
           label="copying windows")
    counts = [(rows, "row") if rows < 32 else (images, "image") for images, rows in BLOCKS]
    ax.set_xticks(at, [f"{count}\n{what}{'s' * (count > 1)}\n{megabytes[block]:.2g}"
                       for (count, what), block in zip(counts, BLOCKS)])
    ax.set_ylim(0, 1.22 * (copying + multiplying).max())


plot.show("07_blocks", draw_blocks)

# %% [markdown]
# Read the orange part from left to right. As long as a block's windows fit into a cache, copying them is cheap. When
# they do not fit any more (a core's second-level cache holds half a megabyte to a few), every copied number travels to
# main memory, and back for the product. At the very left another price shows: blocks so small that the calls themselves
# take time, and products so thin that the processor cannot work at full speed. Somewhere between lies the best block.
# Where exactly depends on the machine, and it is not important to hit it: the valley is flat.
#
# The package does the same in `minimask/fast/conv.py`, with about a megabyte of windows at a time, half of the blocks
# on each of two threads. For wide 3 by 3 layers such as this one it goes further and saves multiplications as well
# (`minimask/fast/winograd.py`); the idea of blocks stays. `with minimask.plain():` takes the whole batch at once.

# %%
def seconds_of(function, repeat=3):
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


with minimask.no_grad():
    with minimask.plain():
        plain = ops.conv2d(x, w).data
        plain_seconds = seconds_of(lambda: ops.conv2d(x, w))
    fast = ops.conv2d(x, w).data
    fast_seconds = seconds_of(lambda: ops.conv2d(x, w))
print(f"minimask, by the clock: plain {1000 * plain_seconds:.0f} ms, as it runs {1000 * fast_seconds:.0f} ms")
far = np.abs(fast - whole).max()
print(f"largest difference: plain {np.abs(plain - whole).max():.0e}, as it runs {far:.0e}, on values up to "
      f"{np.abs(whole).max():.0f}")

# %% [markdown]
# ## 6. And the supermask?
#
# It comes for free. A masked convolution is a convolution with $K \cdot s$ in place of $K$, and the gradient of the
# mask is $\partial L/\partial s = \partial L/\partial (K s) \cdot K$. No layer has to know that the kernel is masked.
#
# ## 7. The claims of this lesson
#
# None is about time. Times depend on the machine and on what else it does; that is why the picture is drawn from
# *your* machine. Memory does not, and the numbers do not.

# %%
assert difference < 1e-13, "a convolution is a matrix product"
assert abs(one_side - other_side) < 1e-10, "adding back is the transpose of taking windows"
assert np.abs(turned_dx - dx).max() < 1e-12, "the image's gradient is a convolution with the turned kernel"
assert np.bincount(A.ravel()).tolist() == [1, 2, 2, 1, 2, 4, 4, 2, 2, 4, 4, 2, 1, 2, 2, 1]
assert error < 1e-5 and np.abs(plain - whole).max() < 1e-5, "blocks change nothing but rounding"
assert far < 1e-4, "neither does the fast version, though it rounds more"
assert peaks[N, 32] - peaks[1, 32] > 0.9 * (N - 1) * windows_bytes / 1e6, "a block needs the windows of one image only"
assert peaks[1, 4] < peaks[1, 32]
assert all(np.all(each > 0) and np.all(np.isfinite(each)) for each in best.values())
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson07.py`; `pytest -m lesson07` marks them, `pytest -m lesson07 -k task1` one.
#
# 1. **`windows(x, kh, kw, stride)`**: the windows as rows, where the window moves `stride` pixels at a time.
# 2. **`conv_pullback(x, w, g)`**: both gradients of a convolution with 'valid' windows. The test holds yours against
#    minimask's.
# 3. **`in_blocks(convolve, x, images)`**: a convolution of a large batch, by calls on few images at a time.
#
# To think about, without marking: how large would $A$ be for a 1 by 1 kernel, and what does the package do there? (Look
# for `direct` in `minimask/fast/conv.py`.)
#
# ## Further reading
#
# Kumar Chellapilla, Sidd Puri and Patrice Simard, *High Performance Convolutional Neural Networks for Document
# Processing*, 2006, [inria-00112631](https://inria.hal.science/inria-00112631). The paper that unrolled convolutions
# into matrix products, before anybody trained networks on graphics cards.
#
# Next: `08_signed_supermask.py` trains masks, and watches weights go.
