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
# # Add an operation, and prove it
#
# **You will build** two operations that minimask does not have, a smooth activation and a standardisation of rows, with
# everything that it takes to trust them.
#
# **You will learn**
# - what an operation is for minimask: one short function that returns a value and a pullback;
# - the witnesses that an operation has to face, and what each of them alone would let pass;
# - why a popular way to test gradients is blind to five out of seven plausible errors, in an operation of every day;
# - where an operation goes in the package, with its test, so that the whole suite is run on it.
#
# **You need to know** lesson 01 (pullback, cotangent, the test along a random direction) and a little of lesson 03 (a
# sum over an axis with `keepdims=True`). It needs Hypothesis and array-api-strict: the
# extra `course` has them, and in a checkout `pip install -e '.[test]'` brings them.
#
# **It takes** about 45 minutes to read. The computer needs less than 10 seconds.

# %%
import warnings

import numpy as np

from minimask import Tensor, op, ops, plot
from minimask.engine import OPS
from minimask.testing import GradientError, elsewhere, gradcheck

try:
    import array_api_strict  # noqa: F401  (section 7 needs it)
    import hypothesis
    from hypothesis import given

    from minimask.testing.strategies import arrays, shapes
except ImportError:
    raise SystemExit("lesson 04 needs both: pip install hypothesis array-api-strict") from None

# %% [markdown]
# ## 1. One short function
#
# The SiLU is an activation like the ELU, but smooth everywhere. With $p$ the logistic sigmoid of $x$,
#
# $$y = x\,p, \qquad p = \frac{1}{1 + e^{-x}} .$$
#
# For the pullback we need the slope. The product rule, and $p' = p\,(1 - p)$, give
#
# $$\frac{dy}{dx} = p + x\,p\,(1 - p) = p + y\,(1 - p), \qquad g_x = g \cdot \bigl(p + y\,(1 - p)\bigr) .$$
#
# An operation in minimask is a function from arrays to two things: the value, and the pullback, which takes $g$ and
# returns a **tuple** with one cotangent per array. The first parameter, `xp`, is the array library: NumPy for NumPy
# arrays, another one for others. Everything that is not an operator (`+`, `*`, ...) is called through it.

# %%
@op(register=False)  # only for this lesson: False keeps it out of the table of the package's operations
def silu(xp, x):
    r"""x sigmoid(x), elementwise: any shape -> same shape. dy/dx = p + y (1 - p), p = sigmoid(x)."""
    e = xp.exp(-xp.abs(x))  # at most 1: it cannot overflow
    p = xp.where(x >= 0, 1.0, e) / (1 + e)  # p = 1 / (1 + e^-x), also where p is tiny: e^x / (1 + e^x)
    y = x * p  # y = x p
    return y, lambda g: (g * (p + y * (1 - p)),)  # g_x = g (p + y (1 - p)); mind the comma: a tuple


# %% [markdown]
# Without the decorator it is an ordinary function on ordinary arrays. It is still there, as `silu.__wrapped__`, and you
# can step through it:

# %%
x = np.array([-2.0, 0.0, 2.0])
value, pullback = silu.__wrapped__(np, x)
print("value           ", value)
print("pullback of ones", pullback(np.ones(3)))

# %% [markdown]
# The decorator does what is the same for all operations, so that none of it stands in yours:
#
# - it finds `xp`, takes the arrays out of Tensors, and puts the value into one;
# - it remembers the pullback if somebody wants a gradient (and does not if nobody does);
# - it sums cotangents back to the shape of inputs that were stretched (lesson 03);
# - it gives Python numbers the dtype of the array beside them, refuses mixed dtypes, and names your operation and the
#   shapes in every error.

# %%
x = Tensor(np.linspace(-6, 6, 121), requires_grad=True)
y = silu(x)
y.sum().backward()  # an elementwise function: the gradient of the sum is the slope at each entry
print(y)

# %% jupyter={"source_hidden": true}
@plot.chart(8, 3.4, x="x", y="value and slope", legend="upper left", ylim=(-0.5, 2.5))
def draw_silu(ax):
    """SiLU and its slope over x; dots, from finite differences, lie on the slope's dashed line."""
    ax.plot(x.data, y.data, color=plot.KEPT, linewidth=2.5, label="SiLU(x)")
    ax.plot(x.data, x.grad, color=plot.INVERTED, linewidth=2.5, linestyle="--", label="its slope, from the pullback")
    h, at = 1e-5, x.data[::6]
    slopes = (silu(at + h).data - silu(at - h).data) / (2 * h)
    ax.plot(at, slopes, "o", color="black", markersize=4, label="its slope, from finite differences")


plot.show("04_silu", draw_silu)

# %% [markdown]
# It looks right. A picture is no proof, though: an error of one per cent would not show.
#
# ## 2. First witness: the definition of the derivative
#
# Lesson 01 tested a gradient along a random direction $d$, for a random cotangent $c$:
#
# $$\frac{\langle c, f(x + h d)\rangle - \langle c, f(x - h d)\rangle}{2h} \;\approx\; \langle g_x, d\rangle ,
# \qquad g_x = \text{pullback}(c) .$$
#
# `minimask.testing.gradcheck` does this for any function of Tensors. It is silent if all is well. We give it an
# operation whose gradient is wrong by one per cent, too: a witness that we have never seen object proves nothing.

# %%
@op(register=False)
def silu_one_per_cent(xp, x):
    value, pullback = silu.__wrapped__(xp, x)
    return value, lambda g: (1.01 * pullback(g)[0],)


rng = np.random.default_rng(0)
gradcheck(silu, rng.standard_normal((2, 3)))  # float64, always: float32 rounds too coarsely for differences


def refusal(function, *inputs, **settings):
    """What gradcheck has to say against a function; empty if nothing."""
    try:
        gradcheck(function, *inputs, **settings)
        return ""
    except GradientError as error:
        return str(error)


print(refusal(silu_one_per_cent, rng.standard_normal((2, 3))))

# %% [markdown]
# Read the message once, you will meet it again: which function, which input and its shape, the two numbers that ought
# to agree, and the first element that is wrong.
#
# ## 3. A wrong gradient that ones do not see
#
# Many programs test gradients with a cotangent of ones; `f(x).sum().backward()` does the same. Lesson 01 had an example
# in which that fails. Here is a worse one. We standardise the last axis, as `minimask.data.standardise` does for images
# and layer normalisation for units:
#
# $$y_i = \frac{x_i - \mu}{\sigma}, \qquad \mu = \frac1n \sum_i x_i, \qquad
# \sigma = \sqrt{\frac1n \sum_i (x_i - \mu)^2 + \varepsilon} .$$
#
# Three ways lead from $x_j$ to $y_i$: directly (if $i = j$), through $\mu$, and through $\sigma$. With
# $\partial\mu/\partial x_j = 1/n$ and $\partial\sigma/\partial x_j = y_j/n$,
#
# $$\frac{\partial y_i}{\partial x_j} = \frac1\sigma\Bigl([i = j] - \frac1n - \frac{y_i\, y_j}{n}\Bigr),
# \qquad
# g_{x,j} = \frac1\sigma\Bigl(g_j - \frac1n \sum_i g_i - y_j\, \frac1n \sum_i g_i\, y_i\Bigr) .$$

# %%
def standardised(xp, x):
    """Value, scale, and the mean over the last axis: what all versions below share."""
    def mean(a):
        return xp.mean(a, axis=-1, keepdims=True)  # (..., 1)

    centred = x - mean(x)  # x_i - mu
    scale = xp.sqrt(mean(centred * centred) + 1e-5)  # sigma
    return centred / scale, scale, mean  # y = (x - mu) / sigma


@op(register=False)
def standardise(xp, x):
    r"""(x - mean) / sqrt(variance + 1e-5) along the last axis: (..., n) -> (..., n)."""
    y, scale, mean = standardised(xp, x)
    return y, lambda g: ((g - mean(g) - y * mean(g * y)) / scale,)  # g_x = (g - mean g - y mean(g y)) / sigma


gradcheck(standardise, rng.standard_normal((3, 5)))

# %% [markdown]
# Now the faults. Each is something that people have done: a forgotten path, a sign, a factor, one wrong element, or a
# pullback that was never finished.

# %%
def faulty(wrong):
    """standardise with another pullback: wrong(right gradient, g, y, scale, mean)."""
    def function(xp, x):
        y, scale, mean = standardised(xp, x)

        def pullback(g):
            right = (g - mean(g) - y * mean(g * y)) / scale
            return (wrong(right, g, y, scale, mean),)

        return y, pullback

    return op(function, register=False)


def first_element_twice(right, *_):
    doubled = right.copy()
    doubled[0, 0] *= 2
    return doubled


versions = {
    "right": standardise,
    "not finished: zeros": faulty(lambda right, *_: 0 * right),
    "wrong sign": faulty(lambda right, *_: -right),
    "factor 1.01": faulty(lambda right, *_: 1.01 * right),
    "one element twice": faulty(first_element_twice),
    "sigma held constant": faulty(lambda right, g, y, scale, mean: (g - mean(g)) / scale),
    "mu held constant": faulty(lambda right, g, y, scale, mean: (g - y * mean(g * y)) / scale),
    "both held constant": faulty(lambda right, g, y, scale, mean: g / scale),
}
x = rng.standard_normal((4, 6))
verdicts = {}
print("version                with ones   with random")
for name, version in versions.items():
    verdicts[name] = refusal(version, x, cotangent=1.0), refusal(version, x)
    print(f"{name:22}", *(f"{'refused' if verdict else 'passes':11}" for verdict in verdicts[name]))

# %% [markdown]
# Five of the seven faults pass with ones, even a pullback of nothing but zeros. The reason is one line. Whatever $x$
# is, the standardised row has the mean 0, so the sum of its entries is always 0, and the true gradient of that sum is
# exactly 0:
#
# $$c = 1: \qquad \sum_i y_i = 0 \;\text{ for all } x \quad\Longrightarrow\quad g_x = 0 .$$
#
# Any multiple of the right gradient is then right, and so is the version without its $\sigma$ term, since
# $\sum_i g_i y_i = \sum_i y_i = 0$. It is not an exotic case: softmax, log-probabilities, batch norm, centring, all of
# them keep some sum fixed. A random cotangent keeps no secret of that kind.
#
# How loud do the two tests object? This is how far both sides of the comparison lie apart:

# %%
def disagreement(function, c, seed=1, h=1e-5):
    """|slope of <c, f> along a random direction - what backward says|."""
    d = np.random.default_rng(seed).standard_normal(x.shape)
    slope = np.sum(c * (function(x + h * d).data - function(x - h * d).data)) / (2 * h)
    leaf = Tensor(x, requires_grad=True)
    function(leaf).backward(c)
    return abs(slope - np.sum(leaf.grad * d))


cotangents = {"ones": np.ones(x.shape), "random": np.random.default_rng(2).standard_normal(x.shape)}
apart = {kind: [disagreement(version, c) for version in versions.values()] for kind, c in cotangents.items()}

# %% jupyter={"source_hidden": true}
@plot.chart(8, 4, x="difference between finite differences and backward", grid="y", legend="lower left",
            xscale="log", xlim=(1e-14, 1e2), ylim=(len(versions) - 0.5, -0.7),
            yticks=range(len(versions)), yticklabels=list(versions))
def draw_witnesses(ax):
    """For each version of a gradient, how far differences and backward lie apart: only random cotangents see some of
    the wrong ones.
    """
    for kind, colour, marker, size in (("random", plot.KEPT, "o", 9), ("ones", plot.INVERTED, "s", 8)):
        ax.plot(np.maximum(apart[kind], 1e-13), range(len(versions)), marker, color=colour, markersize=size,
                markeredgecolor="black", label=f"cotangent: {kind}")
    ax.axvline(1e-5, color="#555555", linestyle="--")
    ax.text(1.4e-5, -0.32, "seen", fontsize=10, ha="left", va="center")
    ax.text(0.7e-5, -0.32, "not seen", fontsize=10, ha="right", va="center")


plot.show("04_witnesses", draw_witnesses)

# %% [markdown]
# ## 4. Second witness: another source for the value
#
# `gradcheck` only says that the pullback belongs to the value. If the *value* is wrong, and the pullback is the right
# one for the wrong value, it is content. So the value needs a witness of its own: the definition written out in another
# way, or another library. Where PyTorch is installed, `minimask.testing.oracle` compares values and gradients with it.

# %%
@op(register=False)
def not_quite_silu(xp, x):
    """x sigmoid(1.702 x): another activation, with the right pullback for it."""
    p = 1 / (1 + xp.exp(-1.702 * x))
    y = x * p
    return y, lambda g: (g * (p + 1.702 * y * (1 - p)),)


x = rng.standard_normal(1000)
gradcheck(not_quite_silu, x)  # silent!
definition = x / (1 + np.exp(-x))  # y = x / (1 + e^-x), literally
value_errors = {f.__name__: np.abs(f(x).data - definition).max() for f in (silu, not_quite_silu)}
print("largest distance from the definition:", {name: float(f"{error:.1e}") for name, error in value_errors.items()})

try:
    import torch

    from minimask.testing import oracle

    oracle.compare(silu, torch.nn.functional.silu, [x])
    print("PyTorch agrees, value and gradient")
except ImportError:
    print("PyTorch is not installed; the definition will do")

# %% [markdown]
# ## 5. Third witness: large numbers, and float32
#
# Random numbers of size 1 meet no overflow. A network in trouble produces a 1000 sooner or later, and $e^{1000}$ is
# infinite. Below is the formula as one finds it in a textbook, $y = x\, e^x / (1 + e^x)$. It passes everything so far.
# The cure is always of the same kind: write the function so that the exponential only sees numbers below 0, as above.
# (Beware of `(1 + tanh(x/2)) / 2`: it never overflows, but at x = -20 the 1 swallows what tanh has to say.)
#
# And float32 must stay float32. In NumPy a single `np.float64(0.5)` in a formula makes everything float64, silently:
# twice the memory, half the speed. Python numbers are safe.

# %%
@op(register=False)
def textbook_silu(xp, x):
    p = xp.exp(x) / (1 + xp.exp(x))
    y = x * p
    return y, lambda g: (g * (p + y * (1 - p)),)


gradcheck(textbook_silu, rng.standard_normal((2, 3)))  # silent!
extremes = {}
for f in (silu, textbook_silu):
    leaf = Tensor(np.float32([-1000.0, 0.0, 1000.0]), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of the overflow; we look at the numbers
        result = f(leaf)
        result.backward(np.ones(3, np.float32))
    extremes[f.__name__] = result.data, leaf.grad
    print(f"{f.__name__:13} at -1000, 0, 1000: {result.data}, slope {leaf.grad}, {result.dtype}")

# %% [markdown]
# ## 6. All shapes: let Hypothesis draw them
#
# We have tested a handful of shapes. What about an array without axes, or with an axis of length 1, or one that is not
# contiguous, or read-only? The package Hypothesis draws such inputs by the dozen, and when one fails it looks for a
# smaller one that fails, too. Here is the complete test of `silu`, as it would stand in a file `test_silu.py`. Under
# pytest these functions are found by their names; here we call them.

# %%
hypothesis.settings.register_profile(  # the same inputs in every run, however slow the machine, and no file about them
    "lesson", derandomize=True, deadline=None, database=None, max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("lesson")


@given(x=shapes().flatmap(arrays))  # a shape, then an array of that shape, in some memory layout
def test_gradient(x):
    gradcheck(silu, x)


@given(x=shapes().flatmap(arrays))
def test_value(x):
    np.testing.assert_allclose(silu(x).data, x / (1 + np.exp(-x)), rtol=1e-12, atol=1e-14)


def test_extremes_in_float32():
    leaf = Tensor(np.float32([-1000.0, 0.0, 1000.0]), requires_grad=True)
    y = silu(leaf)
    y.backward(np.ones(3, np.float32))
    assert y.dtype == leaf.grad.dtype == np.float32
    np.testing.assert_array_equal(y.data, np.float32([0.0, 0.0, 1000.0]))
    np.testing.assert_array_equal(leaf.grad, np.float32([0.0, 0.5, 1.0]))


for test in (test_gradient, test_value, test_extremes_in_float32):
    test()
    print(f"{test.__name__} passes")

# %% [markdown]
# And a fault that only some shapes show. This version of `standardise` takes the mean over the *first* axis in its
# pullback, in one place. On square arrays the shapes fit, and on a single row both means have something in common...

# %%
@op(register=False)
def mixed_up_axes(xp, x):
    y, scale, mean = standardised(xp, x)
    return y, lambda g: ((g - xp.mean(g, axis=0, keepdims=True) - y * mean(g * y)) / scale,)


@given(x=shapes(min_rank=1).flatmap(arrays))
def test_mixed_up_axes(x):
    gradcheck(mixed_up_axes, x)


try:
    test_mixed_up_axes()
    smallest = ""
except GradientError as error:
    smallest = str(error)
print(smallest)

# %% [markdown]
# Vectors passed (for them the first axis *is* the last). The smallest shape with two axes that shows the fault is in
# the message.
#
# ## 7. Fourth witness: another array library
#
# minimask runs on array libraries other than NumPy, on a GPU for example. They agree on the functions of the *array API
# standard*. `array-api-strict` is a library that has these and nothing else, so it finds out who called NumPy by name.
# `elsewhere` compares value and gradients on both.

# %%
@op(register=False)
def silu_by_numpy(xp, x):
    e = np.exp(-np.abs(x))  # np where xp was meant
    p = xp.where(x >= 0, 1.0, e) / (1 + e)
    y = x * p
    return y, lambda g: (g * (p + y * (1 - p)),)


elsewhere(silu, rng.standard_normal((2, 3)))  # silent: the same numbers from both libraries
try:
    elsewhere(silu_by_numpy, rng.standard_normal((2, 3)))
    foreign = ""
except Exception as error:
    foreign = f"{type(error).__name__}: {error}"
print(foreign)

# %% [markdown]
# ## 8. Into the package
#
# An operation for yourself needs no more than the decorator: put it into a file of your own, with its test beside it.
# Write `@op` without `register=False`, and it is also entered in the package's table, so that it is found as
# `ops.silu` once your file is imported.
#
# To make it part of minimask, in a checkout, it goes to three places, a few lines each:
#
# 1. `minimask/ops.py`, in the section where it belongs, with `@op`, type hints and a docstring like its neighbours'
#    (its first line says what, and which shapes):
#    ```python
#    @op
#    def silu(xp: Any, x: Array, /) -> Result:
#        """x sigmoid(x), elementwise: any shape -> same shape. d/dx = p + y (1 - p), p = sigmoid(x)."""
#        e = xp.exp(-xp.abs(x))
#        p = xp.where(x >= 0, asarray(1.0, x), e) / (1 + e)
#        y = x * p
#        return y, lambda g: (g * (p + y * (1 - p)),)
#    ```
#    What stands before the `/` is an array; a parameter after it is a plain Python setting, such as an axis. You will
#    see `asarray(0.0, x)` there: a constant of the library, device and dtype of x. Faster versions of some ops, for
#    large arrays, stand apart in `minimask/fast/ops.py`; an op needs none.
# 2. `minimask/operators.py`, one line in the class `Operators`, beside others of its kind, so that `x.silu()` works:
#    ```python
#    def silu(self) -> Tensor: return OPS["silu"](self)
#    ```
# 3. `tests/cases.py`, one row in the table `CASES`: how to draw inputs (`unary()`: one array of any shape), and what
#    PyTorch calls it. This is its whole test: every test of the suite that goes through the table now goes through it.
#    ```python
#    "silu": Case(unary(), lambda t, x: t.nn.functional.silu(x)),
#    ```
#
# Then, with the packages for testing and PyTorch (`pip install -e '.[test,oracle]'`; without the `-e` pytest would test
# the copy that was installed before, which knows nothing of your op):
#
# ```sh
# pytest --tb=short tests/test_ops.py tests/test_mutants.py -k "silu or has_a_row or method or extreme or kinks"
# ```
#
# and, before you share it, `python benchmarks/readme.py --write` (the README says how many lines each file has) and
# `pytest`, in which some tests always skip, with their reason. What the row has bought you:
#
# - `test_derivative`: section 2, on shapes and layouts that Hypothesis draws;
# - `test_value_and_gradient_equal_pytorch`: section 4, in float64 and in float32;
# - `test_pullback_is_linear_in_the_cotangent`: pulling $2g - 3h$ back is twice the one minus three times the other;
# - `test_every_library_agrees_with_numpy`: section 7; and that nothing writes into its arguments;
# - `test_float32_stays_float32`: section 5;
# - `test_a_changed_pullback_of_any_op_is_caught`: the tests themselves. With zeros, a wrong sign or a factor of 1.01 in
#   your pullback they must fail;
# - `test_every_op_is_a_function_of_the_module_and_a_method_or_operator_of_tensor`: that place 2 was not forgotten.
#
# Forget place 3, and `test_every_registered_op_has_a_row` says so. If a test of the library "cupy-stand-in" finds that
# a module has no function of a name that the standard has, enter that name in `tests/standin.py`: it stands in for
# CuPy where there is no GPU, with a list of CuPy's functions. Large inputs (section 5) and kinks, where the slope
# jumps, random numbers do not find. Enter `ops.silu` in `test_extreme_inputs_stay_finite`, and an op with a kink in
# `test_slopes_at_the_kinks`, both in `tests/test_ops.py`.
#
# ## 9. The claims of this lesson

# %%
passed_with_ones = [name for name, (with_ones, _) in verdicts.items() if not with_ones]
assert passed_with_ones == ["right", "not finished: zeros", "wrong sign", "factor 1.01", "one element twice",
                            "sigma held constant"], "ones should be blind to these five"
assert [name for name, (_, with_random) in verdicts.items() if not with_random] == ["right"], "a random one to none"
assert max(apart["ones"][:6]) < 1e-8 < 1e-3 < min(apart["random"][1:]) and apart["random"][0] < 1e-8
assert "the gradient of input 0, shape (2, 3), is wrong" in refusal(silu_one_per_cent, np.ones((2, 3)))
assert value_errors["silu"] < 1e-14 and value_errors["not_quite_silu"] > 0.05, "only the value shows the other one"
assert np.array_equal(extremes["silu"], [[0, 0, 1000], [0, 0.5, 1]]) and np.isnan(extremes["textbook_silu"]).any()
assert "mixed_up_axes: the gradient of input 0, shape (" in smallest, "Hypothesis should find a shape"
assert foreign and "GradientError" not in foreign, "the strict library should refuse NumPy's function"
gradcheck(lambda x: ops.sum(silu(standardise(x)) * 0.5), rng.standard_normal((3, 4)))  # both, in a larger function
assert "silu" not in OPS, "register=False: the package is as it was"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write them in `exercises/lesson04.py`, where each is described in full, and let pytest mark them from the folder of
# the course (in a checkout: `tutorials/`): `pytest exercises/test_lesson04.py`, or one with `-k task1`.
#
# 1. **Softplus.** $y = \ln(1 + e^x)$, a smooth ReLU, as an operation: value, pullback, large numbers, float32, any
#    array library. *Hint: for large $x$ the value is nearly $x$. Take $\max(x, 0)$ out of the logarithm. What is left
#    there?* Then, in a checkout, put it into the package with its row.
# 2. **Unit vectors.** $y = x / \lVert x \rVert$ along the last axis. *Hint: two ways lead from $x$ to $y$. Scaling $x$
#    changes nothing, so the gradient is at right angles to $y$.*
# 3. **A test of your own.** `gradient_error(function, x, rng)`: how far a gradient is off. Your test is tested: it has
#    to accept right operations and refuse wrong ones. *Hint: section 3. Who chooses the cotangent, and who the
#    direction?*
#
# ## Further reading
#
# David R. MacIver, Zac Hatfield-Dodds and others, *Hypothesis: A new approach to property-based testing*, Journal of
# Open Source Software 4(43), 2019, [doi:10.21105/joss.01891](https://doi.org/10.21105/joss.01891). How random inputs,
# and small counterexamples, became a tool for every day.
#
# Next: `05_dense_net.py` puts operations together to a net, by hand and by layer.
