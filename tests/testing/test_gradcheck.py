"""gradcheck, elsewhere and the PyTorch comparison: what they must name, and the figures they are held to."""

import inspect

import gradients
import numpy as np
import pytest

from minimask import Tensor, op, ops
from minimask.backend import UsageError
from minimask.testing import GradientError, elsewhere, gradcheck, marking, oracle

X = np.array([[-1.0, 2.0]])

# ---- the figures -------------------------------------------------------------------------------------------------

#: Faults that no look at values of float64 near the inputs can show, or that lie below rtol: left in the collection.
OUT_OF_SIGHT = {"through float32", "no slope above 50", "a tie counted twice"}


def test_all_but_three_planted_faults_are_caught_by_every_seed():
    counts = gradients.measured(gradients.FAULTS, 10)
    assert len(counts) >= 63
    assert {name for name, count in counts.items() if count < 10} == OUT_OF_SIGHT


def test_right_functions_are_refused_by_no_seed():
    counts = gradients.measured(gradients.RIGHT, 20)
    assert len(counts) >= 51 and {name: count for name, count in counts.items() if count} == {}


@pytest.mark.parametrize("name", gradients.NAMED)
def test_right_functions_that_were_called_wrong_pass_with_300_seeds(name):
    assert gradients.measured({name: gradients.RIGHT[name]}, 300) == {name: 0}


@pytest.mark.parametrize("name", ["relu writes into g", "relu writes into g that keeps its values"])
def test_a_planted_write_is_refused_for_what_it_is(name):
    assert "its pullback writes into its g; others use that array too" in gradients.FAULTS[name].refused(0)


# ---- writes ------------------------------------------------------------------------------------------------------


def writing(into, library=None):
    """relu that writes: into g, into its input (forward or back), into its value; on one library only, if given."""
    def function(xp, x):
        here = library is None or xp.__name__ == library
        if into == "forward" and here:
            x *= 1.5
        y = xp.maximum(x, 0 * x)

        def pullback(g):
            if into == "g" and here:
                g *= xp.astype(x > 0, g.dtype)
            if into == "input" and here:
                x[...] = -x
            if into == "value" and here:
                y[...] = -y
            return (g * xp.astype(x > 0, g.dtype),)

        return y, pullback if into != "later" else lambda g: (lambda: np.multiply(g, x > 0, out=g),)

    function.__name__ = "my_relu"
    return op(function, register=False)


PULLBACKS = {"g": "my_relu: its pullback writes into its g", "later": "my_relu: its pullback writes into its g",
             "input": "my_relu: its pullback writes into an input of the op or its value",
             "value": "my_relu: its pullback writes into an input of the op or its value"}
WRITES = {**PULLBACKS, "forward": "my_relu: it writes into an array that it was given"}


@pytest.mark.parametrize("into", WRITES)
def test_a_write_is_named(into, torch):
    checks = {"gradcheck": lambda f: gradcheck(f, X), "elsewhere": lambda f: elsewhere(f, X),
              "oracle": lambda f: oracle.compare(f, torch.relu, [X])}
    for name, check in checks.items():
        with pytest.raises(GradientError, match=f"^{WRITES[into]}; others use that array too, so compute a new one"):
            check(writing(into))
        check(writing("nothing"))
        assert X.tolist() == [[-1, 2]] and X.flags.writeable, name


@pytest.mark.parametrize("into", PULLBACKS)
def test_a_write_inside_a_larger_function_is_named(into):
    """The case that showed it: x is used twice, so g is shared, and the gradient was [[0, 4]] in place of [[2, 4]]."""
    my_relu = writing(into)
    with pytest.raises(GradientError, match=PULLBACKS[into]):
        gradcheck(lambda x: ops.sum(2.0 * (my_relu(x) + x)), X)
    gradcheck(lambda x: ops.sum(2.0 * (writing("nothing")(x) + x)), X)


@pytest.mark.parametrize("into", ["g", "input", "forward"])
def test_a_write_on_another_library_only_is_named(into):
    """The loop over NumPy's arrays is right there, and the other library's arrays know no read-only."""
    with pytest.raises(GradientError, match=r"my_relu: on backend 'strict' it writes into (its cotangent|input 0)"):
        elsewhere(writing(into, "array_api_strict"), X)


def test_an_array_that_is_read_only_for_others_stays_writeable_for_its_owner():
    constant = np.ones(3)
    gradcheck(lambda x: x * constant, np.arange(3.0))

    @op(register=False)
    def passes(xp, x, y, /):
        return y, lambda g: (0 * g, g)

    gradcheck(lambda x: passes(x, Tensor(constant)) + x, np.arange(3.0))
    assert constant.flags.writeable


# ---- gradients that are none -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "shown"), [(np.inf, "inf"), (-np.inf, "-inf"), (np.nan, "nan")])
def test_an_infinite_gradient_is_refused_where_it_is(slope, shown):
    @op(register=False)
    def root(xp, x):
        with np.errstate(all="ignore"):
            return xp.sqrt(xp.maximum(x, 0.0)), lambda g: (g * xp.where(x > 0, 0.5 / xp.sqrt(abs(x)), slope * abs(g)),)

    gradcheck(root, np.array([1.0, 2.0]))
    with pytest.raises(GradientError, match=rf"root: the gradient of input 0, shape \(2,\), is -?{shown.strip('-')} at \[1\], "
                                            "where the input is -1; a gradient is finite"):
        gradcheck(root, np.array([1.0, -1.0]))


def test_a_second_call_must_agree():
    for name in ("right in the first call only", "sums up over calls", "dropout with another mask"):
        assert "the gradient of input 0 differs between two calls" in gradients.FAULTS[name].refused(0), name
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="a second call with the same inputs gives another value; draw random numbers"):
        gradcheck(lambda x: x * rng.random(3), np.arange(3.0))


def test_what_differences_cannot_check_is_not_called_wrong():
    """Noise of 1e-2 at every step: no difference settles, so nothing can be said of the slope, neither good nor bad."""
    @op(register=False)
    def noisy(xp, x):
        return x + 1e-2 * xp.sin(1e13 * x), lambda g: (g,)

    with pytest.raises(GradientError, match="noisy: .* cannot be checked, differences do not settle for any step: is there"):
        gradcheck(noisy, np.linspace(-1, 1, 4))
    gradcheck(ops.relu, np.array([1e-4, -1e-4, 3e-5]))  # the larger steps cross the kink, the smaller do not


# ---- settings that would check nothing ---------------------------------------------------------------------------


@op(register=False)
def wrong(xp, x):
    return xp.exp(x), lambda g: (0 * g,)


NAN = float("nan")


@pytest.mark.parametrize("settings", [
    {"directions": 0}, {"directions": -1}, {"directions": 1.5}, {"directions": NAN}, {"rtol": np.inf}, {"rtol": -1e-5},
    {"rtol": NAN}, {"rtol": 1.0}, {"eps": 0.0}, {"eps": -1e-5}, {"eps": NAN}, {"eps": np.inf}, {"cotangent": 0.0},
    {"cotangent": NAN}, {"cotangent": np.inf}], ids=str)
def test_gradcheck_refuses_settings_with_which_it_would_be_silent(settings):
    with pytest.raises(UsageError, match="nothing would be checked; give|checks nothing; leave it out"):
        gradcheck(wrong, np.ones(3), **settings)


@pytest.mark.parametrize("settings", [{"rtol": np.inf}, {"rtol": NAN}, {"rtol": -1.0}, {"atol": np.inf}, {"atol": NAN},
                                      {"atol": -1e-9}], ids=str)
def test_comparisons_refuse_settings_with_which_they_would_be_silent(settings, torch):
    for check in (lambda: elsewhere(wrong, np.ones(3), **settings),
                  lambda: oracle.compare(wrong, torch.exp, [np.ones(3)], **settings)):
        with pytest.raises(UsageError, match="nothing would be checked; give"):
            check()


@pytest.mark.parametrize("tolerance", [np.inf, NAN, -1.0, 1.0])
def test_marking_refuses_a_tolerance_that_marks_nothing(tolerance):
    with pytest.raises(UsageError, match="nothing would be checked; give"):
        marking.expect(1.0, 2.0, "Lesson 3, task 2", tolerance=tolerance)


def test_a_value_without_entries_has_a_gradient_of_zeros():
    """An empty slice depends on nothing: zeros are right, and anything else is not."""
    @op(register=False)
    def ones_for_nothing(xp, x):
        return x[:0], lambda g: (xp.ones_like(x),)

    gradcheck(lambda x: x[:0], np.ones(3))
    gradcheck(ops.exp, np.ones((0, 3)))
    with pytest.raises(GradientError, match="ones_for_nothing: the gradient of input 0"):
        gradcheck(ones_for_nothing, np.ones(3))


def test_a_function_must_return_a_tensor():
    with pytest.raises(TypeError, match="it returned a ndarray, but gradients need a function that returns a Tensor"):
        gradcheck(lambda x: np.exp(x.data), np.ones(3))


def test_settings_of_gradcheck_are_all_that_the_fixture_knows():
    """The plugin's fixture takes gradcheck's own settings away before it hands the rest to elsewhere."""
    from minimask.testing import plugin

    own = set(inspect.signature(gradcheck).parameters) - {"function", "inputs", "settings"}
    assert own == set(plugin.SETTINGS)


# ---- what is taught ----------------------------------------------------------------------------------------------


def taught():
    """The SiLU of minimask.testing's docstring, and that of lesson 04."""
    from pathlib import Path

    import minimask.testing

    code = "\n".join(line[4:] for line in minimask.testing.__doc__.splitlines() if line.startswith((">>> ", "... ")))
    lesson = (Path(__file__).parents[2] / "tutorials/04_add_an_op.py").read_text()
    for text in (code.partition(">>> gradcheck")[0], lesson[lesson.index("@op(register=False)"):lesson.index("# %% [markdown]\n# Without")]):
        names = {"np": np, "op": op, "gradcheck": gradcheck}
        exec(text, names)
        yield names["silu"]


def test_the_sigmoid_that_is_taught_keeps_small_values():
    """(1 + tanh(x/2)) / 2 gives 0 at -20 in float32, where the sigmoid is 2.061154e-09."""
    x = np.float32([-80, -20, -15, -10, -1, 0, 1, 20, 80])
    exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    for silu in taught():
        y = silu(x).data
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, exact, rtol=5e-7)
