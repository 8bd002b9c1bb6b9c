"""The table of faster twins: each is held to its plain version, and plain() never enters the folder fast."""

import inspect
import sys
from functools import partial
from pathlib import Path

import libraries
import numpy as np
import pytest
from cases import CASES, calling
from hypothesis import given, settings
from hypothesis import strategies as st

import minimask
from minimask import Tensor, fast, mask, models, ops, optim, plain, resnet
from minimask.engine import FAST, OPS

FOLDER = str(Path(fast.__file__).parent)
#: Functions that are no ops and have a twin, by the name in the table.
OTHERS = {"resnet.moments": resnet.moments, "optim.nesterov": optim.nesterov}
#: How far float64 results may lie apart, in roundings of 1e-16: another formula (elu), or sums in another order.
ROUNDINGS = {"elu": 8, "conv2d": 500, "grouped_conv2d": 500, "matmul": 100, "take": 20, "batch_norm": 2000, "resnet.moments": 100}


def plain_version(name):
    return OTHERS[name] if name in OTHERS else OPS[name].__wrapped__


def signature(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def close(name, twin, its_plain):
    scale = max(1.0, float(np.abs(its_plain).max(initial=0.0)))
    np.testing.assert_allclose(twin, its_plain, rtol=0, atol=ROUNDINGS.get(name, 0) * 2.3e-16 * scale)


def test_the_table_is_full_and_names_what_is_there():
    assert FAST == {("numpy", name): twin for name, twin in fast.NUMPY.items()} | {
        ("cupy", name): twin for name, twin in fast.CUPY.items()}
    for library, name in FAST:
        assert library in ("numpy", "cupy") and (name in OPS or name in OTHERS), name


@pytest.mark.parametrize(("library", "name"), FAST)
def test_a_twin_has_the_signature_of_its_plain_version(library, name):
    assert signature(FAST[library, name]) == signature(plain_version(name))


@pytest.mark.parametrize("name", [name for library, name in FAST if name in OPS and library == "numpy"])
@given(data=st.data())
def test_a_twin_of_an_op_gives_its_value_and_its_cotangents(name, data):
    """NumPy arrays of all shapes that the registry draws; the same bits but for ROUNDINGS."""
    example = data.draw(CASES[name].examples)
    results = []
    for function in (FAST["numpy", name], plain_version(name)):
        function = partial(function, np)
        value, pullback = calling(name, function)(*example.arrays, **example.settings)
        g = np.random.default_rng(0).standard_normal(np.shape(value))
        entries = [entry() if callable(entry) else entry for entry in pullback(g)]
        results.append([value, *(entry for entry in entries if entry is not None)])
    assert len(results[0]) == len(results[1])
    for twin, its_plain in zip(*results):
        assert np.shape(twin) == np.shape(its_plain) and twin.dtype == its_plain.dtype
        close(name, twin, its_plain)


@pytest.fixture(scope="module")
def stand_in():
    """CuPy's stand-in, which compiles the text of kernels for the host. On a GPU, test_ops.py runs the twins there."""
    with libraries.opened("cupy-stand-in", None) as opened:
        if not hasattr(sys.modules["cupy"], "ElementwiseKernel"):
            pytest.skip("no compiler here (g++) for the text of CuPy's kernels")
        yield opened


@pytest.mark.parametrize("name", [name for library, name in FAST if name in OPS and library == "cupy"])
@settings(max_examples=25)
@given(data=st.data())
def test_cupys_twin_of_an_op_gives_its_value_and_its_cotangents(name, data, stand_in):
    example = data.draw(CASES[name].examples)
    results = []
    for function in (FAST["cupy", name], plain_version(name)):
        arrays = [stand_in.array(a) for a in example.arrays]
        value, pullback = calling(name, partial(function, sys.modules["cupy"]))(*arrays, **example.settings)
        g = stand_in.array(np.random.default_rng(0).standard_normal(value.shape))
        entries = [entry() if callable(entry) else entry for entry in pullback(g)]
        results.append([stand_in.host(a) for a in (value, *(entry for entry in entries if entry is not None))])
    for twin, its_plain in zip(*results):
        assert twin.shape == its_plain.shape and twin.dtype == its_plain.dtype
        close(name, twin, its_plain)


@settings(max_examples=20)
@given(rows=st.integers(2, 200), channels=st.integers(1, 9))
def test_the_moments_are_the_plain_ones(rows, channels):
    x = np.random.default_rng(rows).standard_normal((rows, channels)) + 3.0
    for twin, its_plain in zip(FAST["numpy", "resnet.moments"](np, x), resnet.moments(np, x)):
        close("resnet.moments", twin, its_plain)


@pytest.mark.parametrize("shape", [(3, 5), (700, 600)])
def test_the_optimizers_step_is_the_plain_one(shape, rng):
    arrays = [rng.standard_normal(shape).astype(np.float32) for _ in range(3)]
    twins, plains = [a.copy() for a in arrays], [a.copy() for a in arrays]
    FAST["numpy", "optim.nesterov"](np, *twins, 0.1, 0.99, 0.9)
    optim.nesterov(np, *plains, 0.1, 0.99, 0.9)
    assert [a.tobytes() for a in twins] == [a.tobytes() for a in plains] and not np.array_equal(twins[0], arrays[0])


def test_the_optimizers_step_on_cupy_is_the_plain_one(stand_in, rng):
    arrays = [rng.standard_normal((3, 5)) for _ in range(3)]
    twins, plains = [stand_in.array(a) for a in arrays], [a.copy() for a in arrays]
    FAST["cupy", "optim.nesterov"](sys.modules["cupy"], *twins, 0.1, 0.99, 0.9)
    optim.nesterov(np, *plains, 0.1, 0.99, 0.9)
    for twin, its_plain in zip(twins, plains):
        np.testing.assert_allclose(stand_in.host(twin), its_plain, rtol=1e-15)


@pytest.mark.parametrize(("dtype", "ulps"), [(np.float32, 2.4e-7), (np.float64, 4.5e-16)])
def test_the_plain_elu_differs_from_its_twin_in_the_last_bits_only(dtype, ulps):
    """max(x, 0) + expm1(min(x, 0)) beside an exponential by way of tanh: two roundings, on values up to 1."""
    x = np.concatenate([np.linspace(-20, 3, 400_001), [0.0, -0.0, -1e-30, 1e-30]]).astype(dtype)
    twin, slope = FAST["numpy", "elu"](np, x)
    its_plain, its_slope = plain_version("elu")(np, x)
    np.testing.assert_allclose(twin, its_plain, rtol=3 * ulps, atol=0)
    np.testing.assert_allclose(slope(np.ones_like(x))[0], its_slope(np.ones_like(x))[0], rtol=0, atol=2 * ulps)
    np.testing.assert_allclose(its_plain, np.where(x > 0, x, np.expm1(x.astype(np.float64))), rtol=ulps, atol=0)


def test_an_op_that_bears_a_name_but_is_not_registered_is_not_exchanged():
    @minimask.op(register=False)
    def elu(xp, x, /, alpha=1.0):
        return 7 * x, lambda g: (7 * g,)

    assert elu(np.ones(2)).data.tolist() == [7.0, 7.0] and ops.elu(np.ones(2)).data.tolist() == [1.0, 1.0]


def frames_in_fast(work):
    """The functions of the folder fast that `work` enters on this thread, which hands to others what they do."""
    seen = set()

    def tracer(frame, event, argument):
        if frame.f_code.co_filename.startswith(FOLDER):
            seen.add(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")

    sys.setprofile(tracer)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def one_step(build, shape):
    rng = np.random.default_rng(0)
    net = build(rng)
    sgdw = optim.SGDW(net.parameters(), lr=0.01, wd=1e-4)
    x, y = rng.standard_normal((4, *shape)).astype(np.float32), rng.integers(0, 10, 4)

    def work():
        loss = ops.cross_entropy(net(Tensor(x), training=True), y)
        loss.backward()
        sgdw.step()

    return work


@pytest.mark.parametrize(("build", "shape"), [
    (lambda rng: models.fcn(mask.SignedSupermask(), rng), (28, 28, 1)),
    (lambda rng: models.fcn(mask.BinarySupermask(), rng), (28, 28, 1)),
    (lambda rng: models.fcn(mask.EdgePopup(), rng), (28, 28, 1)),
    (lambda rng: models.conv2(mask.SignedSupermask(), rng, (8, 8, 3)), (8, 8, 3)),
    (lambda rng: models.resnet20(mask.SignedSupermask(), rng, (8, 8, 3)), (8, 8, 3))],
    ids=["fcn", "fcn-binary", "fcn-edge-popup", "conv2", "resnet20"])
def test_plain_never_enters_the_folder_fast(build, shape):
    """Every frame of a forward pass, a backward pass and an optimizer step."""
    with plain():
        assert frames_in_fast(one_step(build, shape)) == set()
    assert {"ops.matmul", "ops.elu", "ops.nesterov"} <= frames_in_fast(one_step(build, shape))  # the tracer sees them
