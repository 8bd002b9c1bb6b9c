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
# # One code, two array libraries
#
# **You will build** functions that compute with whatever array library they are given, and a step of training that runs
# on a device which NumPy cannot read. No GPU is needed: `array-api-strict` stands in for one.
#
# **You will learn**
# - what the array API standard is, and how one function serves NumPy, CuPy and others;
# - which habits of NumPy do not travel, and what to write in their place;
# - how a hidden trip to the host is caught without a GPU;
# - when two libraries give the same bits, and why they often do not.
#
# **You need to know** NumPy well. Lesson 01 helps to understand what is differentiated.
#
# **It takes** about 35 minutes to read. The computer needs less than 10 seconds, and the package `array-api-strict`.

# %%
import math

import numpy as np

import minimask
from minimask import Tensor, backend, data, init, models, ops, optim, plot, train
from minimask.mask import SignedSupermask

BLUE, ORANGE, GREY = plot.KEPT, plot.INVERTED, "#777777"

# %% [markdown]
# ## 1. The array knows its library
#
# Every array library has a sum, an exponential, a matrix product. For a long time each had its own names for them, and
# a program was written for one library. The **array API standard** (2021 and yearly since) fixes names, arguments and
# results of some 200 functions. NumPy 2 follows it, CuPy nearly so, and others as well. A function that uses only
# standard names needs one thing to run on all of them: the library. And the arrays can tell.

# %%
strict = backend.load("strict")  # the module array_api_strict; an error that says what to install, where it is missing


def namespace(x):
    """The library that an array belongs to."""
    return x.__array_namespace__()  # every array of the standard has this method


host = np.arange(6.0, dtype=np.float32).reshape(2, 3)
there = strict.asarray(host)
for x in (host, there):
    assert namespace(x) is backend.namespace(x)  # the package's does the same, and knows CuPy, which has no such method
    print(f"{type(x).__module__.partition('.')[0]:17} {namespace(x).__name__:17} {x.dtype}")

# %% [markdown]
# By custom the library is called `xp`. Here is ELU, written once. Read it as if `xp` were `np`.

# %%
def elu(x):
    xp = namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, xp.asarray(0.0, dtype=x.dtype))))


for x in (host - 2, there - 2):
    print(elu(x))
assert np.array_equal(elu(host - 2), backend.to_host(elu(there - 2)))

# %% [markdown]
# ## 2. Habits that do not travel
#
# NumPy can do far more than the standard. Everything beyond works on your machine, and fails on somebody's GPU a year
# later. `array-api-strict` is an array library on top of NumPy that has the standard's functions *and nothing else*: it
# refuses what is not promised. So a program that runs on it will find the same functions everywhere.
#
# Let us try some habits.

# %%
HABITS = [
    ("x[0]", lambda xp, x: x[0], "x[0, ...]", lambda xp, x: x[0, ...]),
    ("x[:9, :]", lambda xp, x: x[:9, :], "x[:2, :]", lambda xp, x: x[:2, :]),
    ("x.sum()", lambda xp, x: x.sum(), "xp.sum(x)", lambda xp, x: xp.sum(x)),
    ("x.astype(x.dtype)", lambda xp, x: x.astype(x.dtype), "xp.astype(x, x.dtype)",
     lambda xp, x: xp.astype(x, x.dtype)),
    ("(x > 2) * x", lambda xp, x: (x > 2) * x, "xp.astype(x > 2, x.dtype) * x",
     lambda xp, x: xp.astype(x > 2, x.dtype) * x),
    ("xp.sum(x > 2)", lambda xp, x: xp.sum(x > 2), "xp.count_nonzero(x > 2)", lambda xp, x: xp.count_nonzero(x > 2)),
    ("xp.where(x > 2, 1.0, 0.0)", lambda xp, x: xp.where(x > 2, 1.0, 0.0), "xp.where(x > 2, xp.ones_like(x), 0.0)",
     lambda xp, x: xp.where(x > 2, xp.ones_like(x), 0.0)),
    ("x * xp.arange(3)", lambda xp, x: x * xp.arange(3), "x * xp.arange(3, dtype=x.dtype)",
     lambda xp, x: x * xp.arange(3, dtype=x.dtype)),
    ("xp.concatenate([x, x])", lambda xp, x: xp.concatenate([x, x]), "xp.concat([x, x])",
     lambda xp, x: xp.concat([x, x])),
    ("x + np.float64(2)", lambda xp, x: x + np.float64(2), "x + 2.0", lambda xp, x: x + 2.0),
]
refused = 0
for name, habit, portable_name, portable in HABITS:
    with_numpy = habit(np, host)
    try:
        habit(strict, there)
        words = "accepted"
    except (TypeError, IndexError, AttributeError) as error:
        refused += 1
        words = type(error).__name__
    dtype = "(float32 became float64)" if with_numpy.dtype == np.float64 else ""
    print(f"{name:26} NumPy: fine {dtype:24} strict: {words:15} write {portable_name}")
    assert np.array_equal(np.asarray(portable(np, host)), backend.to_host(portable(strict, there)))

# %% [markdown]
# Some of these look like pedantry. Look at the middle column before you say so. Three of the habits turn float32 into
# float64 without a word: NumPy finds a common type, and your single-precision program computes in double
# from there on, at half the speed. Strictness finds such mistakes for NumPy users, too.
#
# One habit is missing in the list, the most dangerous one: to call `np.` on an array of another library.

# %%
came_back = np.exp(there)
print(f"np.exp of a strict array gives a {type(came_back).__module__} array")

# %% [markdown]
# No error. NumPy has fetched the numbers, computed, and returned an array of its own. On a GPU, each such line would
# send the array through the bus to the host, and the next line back; a program with ten of them per step is slower than
# one without a GPU. (CuPy refuses. Others do not.) How do we find them?
#
# ## 3. A device that NumPy cannot read
#
# The standard knows *devices*. `array-api-strict` has a pretended one, `device1`. Its numbers lie in the same memory,
# but the library refuses to hand them out, and to mix them with those of another device. A hidden trip becomes an
# error.

# %%
device = strict.Device("device1")
away = strict.asarray(host, device=device)
complaints = {}
for name, call in (("np.exp(away)", lambda: np.exp(away)), ("np.asarray(away)", lambda: np.asarray(away)),
                   ("away + there", lambda: away + there)):
    try:
        call()
    except (RuntimeError, TypeError, ValueError) as error:
        complaints[name] = f"{type(error).__name__}: {error}"
    print(f"{name:17} {complaints.get(name, 'no error')[:95]}")
print("xp.exp(away)      ", strict.exp(away).device)

# %% [markdown]
# There is a second trap. Functions that *create* arrays do not see any array, so they do not know the device.
# `xp.zeros(3)` lies on the default device. Tell them: `xp.zeros(3, device=x.device)`, or let a `_like` function do it,
# `xp.zeros_like(x)`.
#
# Now a whole training step on the device: frozen weights, scores, images. The package's ops create what they need
# beside the arrays they are given, and its pullbacks, too. The proof is that nothing is refused. (We write
# `ops.multiply(w, s)`: in `w * s` the array on the left would be asked first, and a strict one knows no Tensors.)

# %%
digits = data.digits()
rng = np.random.default_rng(0)
images = data.standardise(digits.train_images[:128]).reshape(128, 64)
labels = digits.train_labels[:128].astype(np.int64)
shapes = [(64, 30), (30, 10)]
drawn = [(init.draw(s, rng, "elus", "signed_constant"), init.draw(s, rng, "xavier", "uniform")) for s in shapes]


def one_step(move):
    """Loss and scores after one step, all arrays brought to their place by move()."""
    frozen = [move(w) for w, _ in drawn]
    scores = [Tensor(move(m.copy()), requires_grad=True) for _, m in drawn]  # asarray need not copy, step() writes
    sgdw = optim.SGDW(scores, lr=0.05, wd=0.003)
    signal = Tensor(move(images))
    for layer, (w, m) in enumerate(zip(frozen, scores)):
        signal = signal @ ops.multiply(w, ops.keep_hide_invert(m, 0.01))  # z = x (W s)
        signal = ops.elu(signal) if layer == 0 else signal
    loss = ops.cross_entropy(signal, move(labels))
    loss.backward()
    sgdw.step()
    return loss, scores


places = {"numpy": np.asarray, "strict": strict.asarray, "strict, device1": lambda a: strict.asarray(a, device=device)}
try:
    places["cupy"] = backend.load("cupy").asarray  # with an NVIDIA GPU and CuPy
except minimask.MinimaskError as error:
    print(f"no CuPy here ({str(error).partition(':')[0]}), strict stands in for it")

losses, stepped = {}, {}
with minimask.plain():  # NumPy's faster versions of ops off: everybody runs the same lines
    for name, move in places.items():
        loss, scores = one_step(move)
        losses[name], stepped[name] = loss.item(), [backend.to_host(m.data) for m in scores]
        print(f"{name:16} loss {losses[name]:.7f}, scores on {backend.place(scores[0].data)}, {scores[0].dtype}")

# %% [markdown]
# ## 4. A net, trained on both
#
# Builders take `backend=`, and that is all: `fit` works where the net's arrays live. Random numbers are always drawn by
# NumPy on the host and then moved, so one seed means the same weights and the same batches everywhere.

# %%
def trained(library, epochs=3):
    rng = np.random.default_rng(0)
    net = models.fcn(SignedSupermask(tau=0.01), rng, digits.input_shape, units=(60, 10), backend=library)
    sgdw = optim.SGDW(net.parameters(), lr=0.05, wd=0.003)
    return net, train.fit(net, digits, sgdw, epochs, rng)["epochs"][-1]


with minimask.plain():
    nets = {library: trained(library) for library in ("numpy", "strict")}
for library, (net, entry) in nets.items():
    home = backend.namespace(net.parameters()[0].data).__name__
    print(f"{library:7} scores in {home:17} loss {entry['train_loss']:.7f}, accuracy {entry['test_accuracy']:.1%}, "
          f"weights left {entry['weights_left']:.2%}")
mine, theirs = (net.arrays() for net, _ in nets.values())
equal = [np.array_equal(mine[name], theirs[name]) for name in mine]
print(f"{sum(equal)} of {len(equal)} arrays are equal to the last bit")

# %% [markdown]
# ## 5. Same bits? Only with luck
#
# The bits agree because `array-api-strict` lets NumPy do the arithmetic. A GPU does its own, and there they will not
# agree. That is no bug of anybody. Floating-point addition rounds, so the result depends on the *order* of the
# summands, and the standard does not prescribe an order. How much can that be? We take one unit's sum over 784 pixels
# in float32 and add in 2,000 different orders, one number after the other.

# %%
rng = np.random.default_rng(1)
terms = (rng.standard_normal(784) * rng.choice([-1, 1], 784) * math.sqrt(3 / 784)).astype(np.float32)
orders = np.argsort(rng.random((2000, 784)), axis=1)
one_by_one = np.cumsum(terms[orders], axis=1)[:, -1]  # cumsum has to add one after the other, in float32
true = float(np.sum(terms.astype(np.float64)))
size = float(np.sqrt(np.sum(terms.astype(np.float64) ** 2)))  # what the sum is large or small against
errors = (one_by_one.astype(np.float64) - true) / size
different = len(np.unique(one_by_one))
print(f"{different} different results of 2,000 orders; the largest error is {np.abs(errors).max():.1e} of the size")
print(f"NumPy's own sum, which adds in pairs, is off by {abs(float(np.sum(terms)) - true) / size:.1e}")

# %% jupyter={"source_hidden": true}
@plot.chart(7.5, 3.8, x="rounding error of the sum, in units of 1e-7 of its size", y="orders of summation", grid="")
def draw_orders(ax):
    """A histogram of rounding errors of one sum in many orders, between dashed lines at the spacing of float32."""
    ax.hist(1e7 * errors, bins=31, color=BLUE, edgecolor="white", linewidth=0.4)
    for edge in (-(2.0**-23), 2.0**-23):
        ax.axvline(1e7 * edge, color=ORANGE, linestyle="--", linewidth=2.2)
    ax.text(1e7 * 2.0**-23, 0.97 * ax.get_ylim()[1], " spacing of float32\n numbers at 1", va="top", fontsize=10)


plot.show("11_orders", draw_orders)

# %% [markdown]
# The results differ in the sixth or seventh digit. That is where tolerances come from when results of two libraries are
# compared: some $10^{-6}$ of the size in float32, some $10^{-15}$ in float64, more where large numbers cancel. A larger
# difference is a mistake, a smaller demand is superstition. And a net that is trained for a thousand steps magnifies
# such differences, until one score falls on the other side of its threshold. Then the masks differ, too, and both are
# right.
#
# ## 6. The claims of this lesson

# %%
assert refused == len(HABITS), "strict should refuse every habit"
assert type(came_back) is np.ndarray and len(complaints) == 3, "a hidden trip is an error on the device"
assert losses["numpy"] == losses["strict"] == losses["strict, device1"], "the same lines on three places"
for name in ("strict", "strict, device1"):
    assert all(np.array_equal(a, b) for a, b in zip(stepped["numpy"], stepped[name])), name
if "cupy" in places:
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(stepped["numpy"], stepped["cupy"]))
assert all(m.dtype == np.float32 for scores in stepped.values() for m in scores), "float32 stays float32"
assert all(equal) and nets["strict"][1]["train_loss"] == nets["numpy"][1]["train_loss"], "one seed, one result"
assert nets["strict"][1]["test_accuracy"] > 0.8, "and it has learned something"
assert different > 50 and 1e-8 < np.abs(errors).max() < 1e-5, "orders differ, a little"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write your answers into `exercises/lesson11.py`; `pytest -m lesson11` marks them, `pytest -m lesson11 -k task1` one.
# The tests run on NumPy, on `array-api-strict`, and on its `device1`.
#
# 1. **`standardise(x)`**: each row with mean 0 and standard deviation 1, on any library.
# 2. **`one_hot(labels, classes, like)`**: rows of a unit matrix, without indexing by arrays, beside another array.
# 3. **`mask_counts(s)`**: how much is kept, hidden and inverted, as Python integers.
#
# To think about, without marking: `xp.where(x > 0, x, ...)` in `elu` above computes `expm1` for *all* entries. Why the
# `xp.minimum` inside? (Hint: $e^{1000}$.)
#
# ## Further reading
#
# Aaron Meurer and others, *Python Array API Standard: Toward Array Interoperability in the Scientific Python
# Ecosystem*, SciPy 2023, [doi:10.25080/gerudo-f2bc6f59-001](https://doi.org/10.25080/gerudo-f2bc6f59-001), and the
# standard itself: [data-apis.org/array-api](https://data-apis.org/array-api/latest/).
