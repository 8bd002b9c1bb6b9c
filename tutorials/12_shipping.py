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
# # Shipping: a trained mask in a few kilobytes
#
# **You will build** a file for a trained net: ternary numbers packed five to a byte, then a code that needs, but for
# one percent and a few bytes, what the shares of their values are worth; and the same net for PyTorch and ONNX.
#
# **You will learn**
# - what a trained supermask has to remember, and how to count it before you write a single byte;
# - what *entropy* is, as a number of bytes that no code beats;
# - how an arithmetic coder turns a message into one number, and why it need not be told the odds;
# - why a net does not survive the way from (height, width, channel) to (channel, height, width) unless one of its
#   matrices is reordered, and which one;
# - which part of a mask carries the information: the places, the signs, or the magnitudes.
#
# **You need to know** lessons 00 and 08 (what a signed supermask is), and 07 for the axes of images.
#
# **It takes** about 45 minutes to read. The computer needs less than 20 seconds.

# %%
import json
import math
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

import minimask
from minimask import anatomy, data, export, interchange, models, optim, plot, train
from minimask.export import ternary
from minimask.mask import SignedSupermask

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. A trained net
#
# The net of lesson 08, trained by the package.

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
accuracy = train.evaluate(net, digits.test_images, digits.test_labels)
print(f"{accuracy:.1%} with {net.weights_left():.1%} of {net.size():,} weights: as float32 {4 * net.size():,} bytes")

# %% [markdown]
# ## 2. What must the file remember?
#
# Not the scores: they decided, and their work is done. Not the frozen weights by themselves, either. The net computes
# with the *effective* weight $W \cdot s$, and our frozen weights are $\pm c$ with one $c$ for a layer. So
#
# $$W \cdot s = c \cdot t, \qquad t = \operatorname{sign}(W) \cdot s \in \{-1, 0, +1\},$$
#
# and a layer is one number and a *ternary* tensor. Nothing else is lost, not even a rounding: we check.

# %%
layers = {}
for name, source in net.weights().items():
    effective = source.effective().data
    c = np.abs(effective).max()
    t = np.sign(effective).astype(np.int8)  # t = sign(W) s
    assert np.array_equal(c * t, effective), "W s = c t, to the last bit"
    layers[name] = (c, t)
    print(f"{name}: c = {c:.6f}, t holds {np.count_nonzero(t > 0):,} times +1, {np.count_nonzero(t < 0):,} times -1, "
          f"{np.count_nonzero(t == 0):,} times 0")

# %% [markdown]
# ## 3. Five to a byte
#
# A byte has 256 values, and five ternary digits have $3^5 = 243$. So five entries fit into a byte, as the digits of a
# number in base 3: entry $-1$ is written as the digit 2. That is $8/5 = 1.6$ bits a weight in place of 32.


# %%
def pack(trits):
    """(n,) of -1, 0, +1 -> ceil(n / 5) bytes, the first entry of a byte as its lowest digit."""
    digits_3 = np.zeros(-(-len(trits) // 5) * 5, np.int64)
    digits_3[:len(trits)] = trits % 3  # -1 -> 2
    return (digits_3.reshape(-1, 5) @ 3 ** np.arange(5)).astype(np.uint8).tobytes()


sizes = {name: {"float32": 4 * t.size, "base 3^5": len(pack(t.ravel()))} for name, (_, t) in layers.items()}
for _, t in layers.values():
    assert pack(t.ravel()) == ternary.pack(t.ravel()), "the package packs the same bytes"
print("all layers:", sum(row["base 3^5"] for row in sizes.values()), "bytes")

# %% [markdown]
# ## 4. How little would do?
#
# Packed, a zero costs as much as a weight that is left. But nearly all entries are zeros: being told "zero again" is
# hardly news. Shannon made news a quantity. If an entry has the value $v$ with probability $p_v$, hearing $v$ is worth
# $\log_2 1/p_v$ bits, and on average an entry is worth its *entropy*
#
# $$H = \sum_v p_v \log_2 \frac{1}{p_v} .$$
#
# Take for $p$ the shares of the layer itself. A code that knows nothing but these shares, and nothing about the order
# of the entries, needs $n H$ bits for $n$ entries on average, and no such code needs less (Shannon proved it; we do
# not). That is the bar to reach.


# %%
def entropy_bytes(t):
    """n H / 8: the bytes that n entries with the shares of t are worth."""
    counts = np.array([np.count_nonzero(t == v) for v in (-1, 0, 1)])
    p = counts[counts > 0] / t.size
    return t.size * np.sum(p * np.log2(1 / p)) / 8  # H = sum of p log2(1/p)


for name, (_, t) in layers.items():
    sizes[name]["entropy"] = entropy_bytes(t)
    print(f"{name}: {np.mean(t != 0):6.1%} left, {8 * entropy_bytes(t) / t.size:.3f} bits a weight, "
          f"{entropy_bytes(t):8.1f} bytes in all")

# %% [markdown]
# ## 5. A message is a number
#
# How can an entry cost 0.4 bits, when a file consists of whole bits? By not coding entries one by one. *Arithmetic
# coding* gives the whole message one number between 0 and 1:
#
# - begin with the interval $[0, 1)$;
# - for each entry, cut the interval into three parts, as wide as the three values are probable, and go on with the part
#   of the entry that comes;
# - any number inside the last interval tells the whole message to a reader who knows how many entries there are: he
#   cuts in the same way and looks in which part the number lies.
#
# The last interval is as wide as the product of the probabilities, and a number inside an interval of width $w$ can be
# written with about $\log_2 1/w$ bits: exactly the news in the message.
#
# And the probabilities? They need not be sent. Writer and reader both start with one of each, and count along: after
# each entry the value that came is a little more probable. Python's fractions are exact, so here is the whole idea in
# a few lines (and slow, since the fractions grow).


# %%
def narrow(message):
    """The interval of a message of -1, 0, +1: (its low end, its width)."""
    low, width, seen = Fraction(0), Fraction(1), [1, 1, 1]
    for entry in message:
        total, i = sum(seen), entry + 1
        low += width * Fraction(sum(seen[:i]), total)
        width *= Fraction(seen[i], total)
        seen[i] += 1
    return low, width


# %% [markdown]
# The writer then looks for the shortest number in the last interval, and the reader cuts as the writer did:

# %%
def shortest(low, width):
    """(number, bits): the number in [low, low + width) that has fewest binary digits, number / 2^bits."""
    bits = 0
    while True:
        number = math.ceil(low * 2**bits)
        if Fraction(number, 2**bits) < low + width:
            return number, bits
        bits += 1


def read(number, bits, length):
    """The message back from the number: cut as the writer did, and see where the number lies."""
    place, low, width, seen, message = Fraction(number, 2**bits), Fraction(0), Fraction(1), [1, 1, 1], []
    for _ in range(length):
        total = sum(seen)
        i = sum(place >= low + width * Fraction(sum(seen[:k]), total) for k in (1, 2))
        low, width = low + width * Fraction(sum(seen[:i]), total), width * Fraction(seen[i], total)
        seen[i] += 1
        message.append(i - 1)
    return message


message = layers["dense2"][1].ravel()[:300].tolist()
number, bits = shortest(*narrow(message))
assert read(number, bits, len(message)) == message
print(f"300 entries, {np.count_nonzero(message)} of them left, are one number of {bits} bits; "
      f"the entropy of their shares is {8 * entropy_bytes(np.array(message)):.1f}, five to a byte takes {8 * 60}")

# %% [markdown]
# It needs some ten bits more than the entropy: the price of learning the shares on the way. How large is that price for
# a whole layer? Multiply the probabilities that the counting gives. In the numerators every value counts $1, 2, 3,
# \dots$, in the denominators stands $3, 4, 5, \dots$, whatever the order of the entries. With $n_v$ entries of each
# value
#
# $$w = \frac{2!\; n_{-1}!\; n_0!\; n_{+1}!}{(n + 2)!}, \qquad
# \log_2 \frac1w = \log_2 \frac{n!}{n_{-1}!\, n_0!\, n_{+1}!} + \log_2 \frac{(n+1)(n+2)}{2} .$$
#
# The first part is at most $n H$ (there are at most $2^{nH}$ messages with these counts). The second, the price, is
# about $2 \log_2 n$ bits: 30 bits for 30,000 entries, less than 4 bytes.


# %%
def adaptive_bits(counts):
    """log2(1/w) for a message with these counts: log2 of (n+2)! / (2! n_-1! n_0! n_1!)."""
    nats = math.lgamma(sum(counts) + 3) - math.log(2) - sum(math.lgamma(k + 1) for k in counts)
    return nats / math.log(2)


counts = [message.count(v) for v in (-1, 0, 1)]
width = narrow(message)[1]
product = math.log2(width.denominator) - math.log2(width.numerator)
assert abs(adaptive_bits(counts) - product) < 1e-6, "the formula is the product of all probabilities"
for name, (_, t) in layers.items():
    counts = [int(np.count_nonzero(t == v)) for v in (-1, 0, 1)]
    print(f"{name}: entropy {entropy_bytes(t):8.1f} bytes, by counting along {adaptive_bits(counts) / 8:8.1f}")

# %% [markdown]
# A coder that is used works with integers of fixed size in place of fractions, and puts out a byte whenever the first
# byte of the interval is settled. minimask's (`ternary.py`) also takes a shorter way through long runs of zeros: it
# codes the *gaps* between the weights that are left, and their signs, so its time grows with the weights and not with
# the zeros. (So it counts other things than we did, and the header of the file tells it how many weights are left.)
# What it promises is at most 1.01 times the entropy and 16 bytes.

# %%
for name, (_, t) in layers.items():
    code = ternary.encode_gaps(t.ravel())
    assert np.array_equal(ternary.decode_gaps(code, t.size, np.count_nonzero(t)), t.ravel())
    sizes[name]["arithmetic"] = len(code)
    assert len(code) <= 1.01 * sizes[name]["entropy"] + 16
    shuffled = ternary.encode_gaps(anatomy.shuffled(t, np.random.default_rng(0)).ravel())
    sizes[name]["shuffled"] = len(shuffled)
    print(f"{name}: {len(code):6,} bytes, the entropy is {sizes[name]['entropy']:8.1f}; "
          f"the same entries shuffled take {len(shuffled):6,}; {np.sum(~t.any(axis=1))} of {len(t)} rows are empty")

# %% [markdown]
# The second layer takes *less* than its entropy. No miracle: the bar is for codes that know nothing of the order, and
# this layer has an order. Many of its inputs are units of the first layer that are dead, so nearly half of its rows are
# empty, gaps are longer than chance would make them, and the coder has learned that on the way. Shuffle the entries,
# and the gain is gone.

# %% jupyter={"source_hidden": true}
@plot.chart(8, 4.2, x="bytes (log scale)", grid="", legend="lower right", xscale="log", xlim=(50, 600_000),
            ylim=(len(sizes) - 0.4, -0.6), yticks=range(len(sizes)), yticklabels=list(sizes))
def draw_sizes(ax):
    """Bars of bytes, log scale, for each layer and all: float32 is far longest, and base 3^5 and arithmetic code
    near the entropy.
    """
    rows = np.arange(len(sizes))
    for i, (kind, colour) in enumerate((("float32", GREY), ("base 3^5", ORANGE), ("arithmetic", BLUE))):
        bars = ax.barh(rows + 0.27 * (i - 1), [row[kind] for row in sizes.values()], 0.25, color=colour, label=kind)
        ax.bar_label(bars, [f"{row[kind]:,}" for row in sizes.values()], padding=4, fontsize=9)
    ax.vlines([row["entropy"] for row in sizes.values()], rows - 0.45, rows + 0.45, color="black", linestyle="--",
              label="entropy, if the order is not used")


plot.show("12_sizes", draw_sizes)

# %% [markdown]
# The large layers, which are nearly all zeros, gain most. The last one is nearly full, its entropy is close to that of
# three equal shares, and no code can do much for it.
#
# ## 6. The file
#
# A file for others must say what it is: how many layers, of which shapes, how images are standardised, what the classes
# are called. `export.save` writes all that as a short text, then the layers' codes, and at the end a digest over
# everything; `minimask export RUN -o tiny.mmk` does the same for a run. Reading it needs no data set and no scores.

# %%
folder = Path(tempfile.mkdtemp())
tiny = folder / "tiny.mmk"
export.save(tiny, net, digits.classes, about="lesson 12")
shipped = export.load(tiny)
images = data.standardise(digits.test_images)
with minimask.no_grad():
    ours, theirs = net(images).data, shipped.net(images).data
print(f"{tiny.stat().st_size:,} bytes in place of {4 * net.size():,}: {4 * net.size() / tiny.stat().st_size:.0f} to 1; "
      f"the logits differ by {np.abs(ours - theirs).max()}")

# %% [markdown]
# A file that was damaged on its way must not become a net that is a little wrong. Flip one bit, here in every 97th
# byte, and the file is refused.

# %%
refused = 0
for place in range(0, tiny.stat().st_size, 97):
    content = bytearray(tiny.read_bytes())
    content[place] ^= 1
    (folder / "damaged.mmk").write_bytes(content)
    try:
        export.load(folder / "damaged.mmk")
    except export.ExportError as error:
        refused += 1
        sentence = str(error)
print(f"{refused} of {len(range(0, tiny.stat().st_size, 97))} damaged files were refused; the last one:\n{sentence}")

# %% [markdown]
# ## 7. To other systems
#
# Others want the *dense equivalent*: plain float32 weights, zeros and all. The file is large again, but every system
# reads it. Two things change on the way. A dense weight is (in, out) here and (out, in) in PyTorch: a transpose. And
# images are (height, width, channel) here, (channel, height, width) there. For a kernel that is a transpose, too.
#
# The trap is `Flatten`. It puts the numbers of an image in a row: here all channels of the first pixel come first,
# there all pixels of the first channel. The dense weight behind it expects them in our order. So its rows must be put
# in theirs, once, and no other matrix is reordered. Look at it on a small conv net.

# %%
conv = models.conv2(SignedSupermask(tau=0.01), np.random.default_rng(1), input_shape=(8, 8, 3))
weight = conv.weights()["dense1"].effective().data  # (in, out), in = 4 * 4 * 64: row, column, channel
height, width_, channels = conv.shapes["maxpool2d1"]
blocks = weight.reshape(height, width_, channels, -1)  # (4, 4, 64, out)
there = blocks.transpose(3, 2, 0, 1).reshape(blocks.shape[3], -1)  # (out, in), in = channel, row, column

x = np.random.default_rng(2).standard_normal((5, height, width_, channels)).astype("float32")  # what comes into Flatten
right = x.reshape(5, -1) @ weight
naive = x.transpose(0, 3, 1, 2).reshape(5, -1) @ weight  # NCHW, flattened there, with rows in our order
shipped_dense = x.transpose(0, 3, 1, 2).reshape(5, -1) @ there.T
wrong_by, right_by = (np.abs(y - right).max() / np.abs(right).max() for y in (naive, shipped_dense))
print(f"largest difference, as a share of the largest number: rows as they were {wrong_by:.2f}, "
      f"reordered {right_by:.0e}")
assert np.array_equal(there, interchange.state_dict(conv)["dense1.weight"]), "the package writes the same"

# %% [markdown]
# The first way is treacherous. Nothing complains, since all shapes fit, and the numbers are just wrong. That is why one
# compares outputs on the same images, not shapes. We do, with whatever of PyTorch and onnxruntime is installed here.

# %%
picture = np.random.default_rng(3).standard_normal((20, 8, 8, 3)).astype("float32")
with minimask.no_grad():
    here = conv(picture).data
nchw = np.ascontiguousarray(picture.transpose(0, 3, 1, 2))
differences = {}
try:
    import torch

    differences["PyTorch"] = interchange.torch_module(conv)(torch.tensor(nchw)).numpy() - here
except ImportError:
    print("NOT compared with PyTorch, which is not installed: pip install torch")
try:
    import onnxruntime

    interchange.write_onnx(conv, folder / "net.onnx")
    session = onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"])
    differences["onnxruntime"] = session.run(["logits"], {"images": nchw})[0] - here
except (ImportError, minimask.MinimaskError) as error:
    print(f"NOT compared with onnxruntime ({error}): pip install onnx onnxruntime")
for system, difference in differences.items():
    print(f"{system}: the logits differ by at most {np.abs(difference).max() / np.abs(here).max():.0e} of the largest")

# %% [markdown]
# ## 8. Which part did we ship?
#
# The file holds places, signs, and one magnitude for each layer. Which of them carries what was learned? Replace one
# part by chance, keep the others, and measure. `anatomy.CHANGES` has five such changes:
#
# - *signs shuffled*: the same weights are left, but which is kept and which inverted is shuffled within each layer;
# - *mask shuffled*: all entries of the mask change places within the layer;
# - *magnitudes uniform*, *normal*: places and signs stay; each magnitude is drawn anew, with the same second moment
#   $c^2$;
# - *frozen weights anew*: the same mask over another draw of the frozen weights, new signs and all.
#
# (All frozen magnitudes are $c$, so drawing them anew by their own rule would change nothing. That is why the third
# takes other distributions.)

# %%
worth = anatomy.worth(net, digits, np.random.default_rng(0), repeats=5)
for name, accuracies in worth.items():
    print(f"{name:20} {np.mean(accuracies):6.1%}  ({min(accuracies):.1%} to {max(accuracies):.1%})")

# %% jupyter={"source_hidden": true}
@plot.chart(8, 3.4, x="accuracy on held-out images, % (bar: mean; marks: draws)", grid="", xlim=(0, 101),
            ylim=(len(worth) - 0.5, -0.5), yticks=range(len(worth)), yticklabels=list(worth))
def draw_worth(ax):
    """Bars of accuracy for the net and for what is left if a part of it is drawn anew, with a dashed line at
    guessing.
    """
    for row, accuracies in enumerate(worth.values()):
        ax.barh(row, 100 * np.mean(accuracies), 0.6, color="#c9d6e6", edgecolor=BLUE)
        ax.plot(100 * np.array(accuracies), [row] * len(accuracies), "o", color=ORANGE, markeredgecolor="black")
    ax.axvline(10, color="black", linestyle="--", linewidth=1.5)
    ax.text(11, 0.5, "guessing", fontsize=9, va="center")


plot.show("12_worth", draw_worth)

# %% [markdown]
# Shuffle the signs, and the net guesses, though every place is still right. Give every weight another size, and it
# loses some points, no more. What was learned is *where* and *with which sign*, which is precisely what the ternary
# tensor holds. The last line says that the mask alone, without the random signs it was trained on, is worth nothing:
# ship $t$, or ship $s$ with the seed.
#
# ## 9. The claims of this lesson

# %%
total = {kind: sum(row[kind] for row in sizes.values()) for kind in ("float32", "base 3^5", "arithmetic", "entropy")}
print(json.dumps({kind: round(value) for kind, value in total.items()}))
assert accuracy > 0.97
assert total["base 3^5"] == sum(-(-t.size // 5) for _, t in layers.values())
assert total["arithmetic"] < 0.35 * total["base 3^5"]
assert sizes["dense2"]["arithmetic"] < sizes["dense2"]["entropy"] - 5, "a code that knows of the order is under the bar"
assert all(row["shuffled"] > row["entropy"] - 3 for row in sizes.values()), "without an order none is"
assert np.array_equal(ours, theirs), "the file is the net, to the last bit"
assert tiny.stat().st_size < 5000 and refused == len(range(0, tiny.stat().st_size, 97))
assert wrong_by > 0.1 and right_by < 1e-5, "the rows behind Flatten must be reordered"
assert all(np.abs(d).max() < 1e-4 * np.abs(here).max() for d in differences.values()), "of those that are installed"
assert max(worth["signs shuffled"] + worth["mask shuffled"] + worth["frozen weights anew"]) < 0.3
assert min(worth["magnitudes uniform"]) > 0.85 and min(worth["magnitudes normal"]) > 0.8
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson12.py`; in the course's folder `pytest -m lesson12` marks them, and
# `pytest -m lesson12 -k task1` one.
#
# 1. **`entropy_bits(trits)`**: the entropy of a ternary array, in bits for all its entries; mind the shares of 0.
# 2. **`unpack(code, size)`**: the ternary numbers back from `pack`'s bytes.
# 3. **`to_channels_first(weight, shape)`**: a dense weight behind `Flatten`, as PyTorch wants it.
#
# To think about, without marking: for `adaptive_bits` the order of the entries makes no difference. The first layer's
# weights lie in the middle of the image, and the borders are empty. What would a coder have to count to gain from that,
# and what would learning those counts cost?
#
# ## Further reading
#
# Ian H. Witten, Radford M. Neal and John G. Cleary, *Arithmetic Coding for Data Compression*, Communications of the ACM
# 30 (6), 1987, [doi:10.1145/214762.214771](https://doi.org/10.1145/214762.214771): the coder with integers, complete in
# a few pages, with its proof that so little is lost.
