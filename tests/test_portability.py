"""One code for every array library: layers, training, masks, files and the command line; the fixture is `library`.

Ops and the engine have their rounds over the libraries in test_ops.py and test_engine.py.
"""

import gc
import json
import os

import array_api_strict as strict
import numpy as np
import pytest
import standin

from minimask import (
    MinimaskError,
    Tensor,
    backend,
    data,
    engine,
    errors,
    loop,
    models,
    nn,
    op,
    ops,
    optim,
    recipes,
    runs,
    train,
)
from minimask.__main__ import main
from minimask.mask import SignedSupermask, Trained

RNG = np.random.default_rng(0)
IMAGES, COTANGENT_SEED = RNG.standard_normal((4, 8, 8, 3)), 7
SOURCES = pytest.mark.parametrize("weights", [SignedSupermask(tau=0.05), Trained()], ids=["masked", "dense"])


def drawn(kind, weights, library="numpy"):
    """A layer of each kind, drawn from one seed."""
    draw = {"weights": weights, "rng": np.random.default_rng(0), "dtype": "float64", "backend": library}
    return {"dense": lambda: nn.Sequential([nn.Flatten(), nn.Dense(192, 5, **draw), nn.ELU(0.5)], (8, 8, 3)),
            "conv": lambda: nn.Conv2D(3, 5, 3, stride=2, **draw),
            "conv1x1": lambda: nn.Conv2D(3, 5, 1, padding="valid", **draw),
            "maxpool": lambda: nn.MaxPool2D(3, stride=2, padding="same"),
            "globalavgpool": nn.GlobalAvgPool,
            "relu": nn.ReLU,
            "batchnorm": lambda: nn.BatchNorm(3, dtype="float64", backend=library),
            "batchnorm-plain": lambda: nn.BatchNorm(3, affine=False, dtype="float64", backend=library),
            "residual": lambda: nn.Residual([nn.Conv2D(3, 4, 3, **draw), nn.BatchNorm(4, dtype="float64", backend=library),
                                             nn.ELU(), nn.Conv2D(4, 5, 3, **draw)], [nn.Conv2D(3, 5, 1, **draw)])}[kind]()


KINDS = ("dense", "conv", "conv1x1", "maxpool", "globalavgpool", "relu", "batchnorm", "batchnorm-plain", "residual")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [SignedSupermask(tau=0.05), Trained()], ids=["masked", "dense"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_every_layer_agrees_with_numpy(kind, weights, training, library):
    """Its value, the gradient of its input and of all that is trained, and the state it keeps (running statistics)."""
    def everything(name, move):
        layer, x = drawn(kind, weights, name), Tensor(move(IMAGES), requires_grad=True)
        layer(x, training=True)  # one step before: what inference then uses is not what it started from
        y = layer(x, training=training)
        y.backward(move(np.random.default_rng(COTANGENT_SEED).standard_normal(y.shape)))
        layers = [each for _, each in layer.walk()]
        state = [a for each in layers for a in each.own_state().values() if hasattr(a, "shape")]
        return [y.data, x.grad, *(p.grad for each in layers for p in each.own_parameters().values()), *state]

    expected, found = everything("numpy", np.array), everything(library.backend, library.array)
    assert len(expected) == len(found)
    for ours, theirs in zip(expected, found):
        library.close(theirs, ours, loose=10)  # sums of up to 300 terms


def net_of(name, weights, library):
    """The paper's net of that name on 8x8 images."""
    options = {"units": (6, 5, 4)} if name == "fcn" else {"classes": 4}
    options |= {"norm": "all"} if name.startswith("resnet") else {}
    return models.MODELS[name](weights=weights, rng=np.random.default_rng(0), input_shape=(8, 8, 3), dtype="float64",
                               backend=library, **options)


@pytest.mark.parametrize("name", ["fcn", "conv2", "resnet20"])
@SOURCES
def test_three_training_steps_equal_numpys(name, weights, library):
    """Losses, every array of the net, its mask and its counts, and its logits after three steps of SGDW."""
    rng = np.random.default_rng(3)
    images, labels = rng.standard_normal((3, 4, 8, 8, 3)), rng.integers(0, 4, (3, 4))

    def everything(library_name, move):
        net = net_of(name, weights, library_name)
        optimizer, losses = optim.SGDW(net.parameters(), lr=0.01, wd=1e-3), []
        for x, y in zip(images, labels):
            loss = ops.cross_entropy(net(move(x), training=True), move(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, net, net(move(images[0])).data

    (losses, net, logits), (other_losses, other, other_logits) = (everything("numpy", np.array),
                                                                  everything(library.backend, library.array))
    # Batch norm over 4 images of 2x2 divides by small deviations: roundings grow by some 1e3 a step.
    np.testing.assert_allclose(other_losses, losses, rtol=1e-9)
    np.testing.assert_allclose(library.host(other_logits), logits, rtol=1e-7, atol=1e-9)
    for p in other.parameters():
        library.host(p)  # still where it was
    arrays = other.arrays()
    for key, array in net.arrays().items():
        assert type(arrays[key]) is np.ndarray
        np.testing.assert_allclose(arrays[key], array, rtol=1e-7, atol=1e-10, err_msg=key)
    assert other.counts() == net.counts() and other.weights_left() == net.weights_left()
    for key, mask in net.masks().items():
        np.testing.assert_array_equal(other.masks()[key], mask)


def small_set(n=72):
    """Two kinds of 8x8 colour images, bright above or below."""
    labels = np.random.default_rng(1).integers(0, 2, n)
    images = np.random.default_rng(2).integers(0, 100, (n, 8, 8, 3))
    images[labels == 0, :4] += 120
    images[labels == 1, 4:] += 120
    images = images.astype(np.uint8)
    return data.Dataset("halves", images[8:], labels[8:], images[:8], labels[:8], ("above", "below"))


@pytest.mark.parametrize("name", ["fcn", "conv2", "resnet20"])
def test_fit_gives_numpys_record_where_the_net_lives(name, library):
    """The loop, standardisation, evaluation and record, two steps an epoch. In float64: in float32 small nets part ways."""
    dataset, records = small_set(), []
    for where in ("numpy", library.backend):
        rng = np.random.default_rng(0)
        options = {"units": (6, 2)} if name == "fcn" else {"classes": 2}
        net = models.MODELS[name](weights=SignedSupermask(tau=0.01), rng=rng, input_shape=(8, 8, 3), dtype="float64",
                                     backend=where, **options)
        record = train.new_record(net=net)
        records.append(train.fit(net, dataset, optim.SGDW(net.parameters(), 0.02, 1e-3), 2, rng, batch=32, record=record))
    for ours, theirs in zip(*(r["epochs"] for r in records)):
        assert theirs["train_loss"] == pytest.approx(ours["train_loss"], rel=1e-6)
        for key in ("epoch", "step", "train_accuracy", "test_accuracy", "weights_left", "flips", "layers"):
            assert theirs[key] == ours[key], key
    library.host(net.parameters()[0])
    assert json.loads(json.dumps(records[1], allow_nan=False)) == records[1]
    assert records[1]["environment"]["backend"] == {"strict": "array_api_strict"}.get(library.backend, library.backend)


# ---- from one library to another -------------------------------------------------------------------------------------


@SOURCES
def test_a_net_moves_there_and_back(weights, library):
    """Parameters, frozen weights, thresholds and running statistics, bit for bit; what arrives is a copy."""
    net = net_of("resnet20", weights, "numpy")
    net(IMAGES, training=True)  # running statistics that are not those of a new net
    there, back = net_of("resnet20", weights, library.backend), net_of("resnet20", weights, "numpy")
    there.load(net.arrays())
    for tensor in there.parameters():
        library.host(tensor)
    library.close(there(library.array(IMAGES)).data, net(IMAGES).data, loose=1e4)
    back.load(there.arrays())
    for key, array in net.arrays().items():
        assert back.arrays()[key].tobytes() == array.tobytes() and back.arrays()[key].dtype == array.dtype, key
    handed_over = net.arrays()
    there.load(handed_over)
    for tensor in there.parameters():
        tensor.data *= 2.0
    for key, array in net.arrays().items():
        np.testing.assert_array_equal(handed_over[key], array)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.once
def test_a_run_of_one_library_is_read_back_into_another(library, folder):
    """`minimask train --backend`: record.json and network.npz hold plain data, whatever wrote them."""
    digits = data.digits()
    words = ["train", "digits", "--epochs", "1", "--quiet"]
    assert main([*words, "--backend", library.backend, "--out", "there"]) == 0
    assert main([*words, "--out", "here"]) == 0
    nets = {}
    for name in ("there", "here"):
        nets[name, "numpy"], record = runs.load(folder / name, digits)
        nets[name, library.name], _ = runs.load(folder / name, digits, backend=library.backend)
        end = record["epochs"][-1]
        for where in ("numpy", library.name):
            net = nets[name, where]
            assert train.evaluate(net, digits.test_images, digits.test_labels) == pytest.approx(end["test_accuracy"], abs=1 / 360)
            assert [(x["kept"], x["hidden"], x["inverted"]) for x in end["layers"]] == net.counts()
        library.host(nets[name, library.name].parameters()[0])
        for key, array in nets[name, "numpy"].arrays().items():
            np.testing.assert_array_equal(nets[name, library.name].arrays()[key], array)
    for key, array in nets["here", "numpy"].arrays().items():  # one seed, one net; float32, 12 steps
        np.testing.assert_allclose(nets["there", "numpy"].arrays()[key], array, rtol=1e-3, atol=1e-4)
    assert {p.name for p in folder.glob("there/*")} == {p.name for p in folder.glob("here/*")}


# ---- what is refused, and in which words -----------------------------------------------------------------------------


def on(device):
    return lambda host: strict.asarray(host, device=strict.Device(device))


#: Two ways to make an array, and what an error calls the places that they make it in.
PLACES = {"libraries": (np.asarray, on("CPU_DEVICE"), "numpy and array_api_strict on .*CPU_DEVICE"),
          "devices": (on("CPU_DEVICE"), on("device1"), "array_api_strict on .*CPU_DEVICE.* and array_api_strict on .*device1"),
          "gpus": (standin.ndarray, lambda host: standin.ndarray(host, device=1),
                   "cupy on <CUDA Device 0> and cupy on <CUDA Device 1>"),
          "gpu and host": (standin.ndarray, np.asarray, "cupy on <CUDA Device 0> and numpy")}


@pytest.mark.parametrize("what", PLACES)
def test_arrays_in_two_places_are_refused_with_both_named(what, monkeypatch):
    standin.install(monkeypatch)
    here, there, both = PLACES[what]
    x, y = Tensor(here(np.ones(3)), requires_grad=True), there(np.ones(3))
    calls = {"add": lambda: x + Tensor(y), "maximum": lambda: ops.maximum(x, y), "concat": lambda: ops.concat([x, y]),
             "backward": lambda: (x * 1.0).backward(y), "Tensor.data": lambda: setattr(x, "data", y)}
    if what != "gpu and host":  # labels and conditions of the host are moved, those of another place are not
        calls["where"] = lambda: ops.where(there(np.ones(3, bool)), x, 0.0)
        calls["take"] = lambda: ops.take(x, there(np.ones(1, np.int64)))
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"^{name}: mixes arrays of {both}.*; move one first") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.fixture
def device(monkeypatch):
    """The stand-in for CuPy, with room for what a test says: device.limit = bytes."""
    standin.install(monkeypatch)
    monkeypatch.setattr(standin.Memory, "limit", None)
    gc.collect()  # or what earlier tests left behind would be given back in the middle of this one
    return standin.Memory


def test_an_op_that_does_not_fit_says_what_was_asked_for_and_the_way_out(device):
    x, w = Tensor(standin.ndarray(np.ones((4, 8, 8, 2)))), Tensor(standin.ndarray(np.ones((3, 3, 2, 4))))
    device.limit = device.held + 10_000
    with pytest.raises(MinimaskError, match=(
            r"^conv2d of \(4, 8, 8, 2\) float64, \(3, 3, 2, 4\) float64: memory ran out: out of memory allocating [\d,]+ bytes "
            r"\(allocated so far: [\d,]+ bytes\); take a smaller batch .*, or a smaller block: budget=\d+ bytes$")) as caught:
        ops.conv2d(x, w)
    assert isinstance(caught.value, MemoryError) and "\n" not in str(caught.value)


def test_an_op_that_takes_a_budget_is_told_one_to_try(device, monkeypatch):
    monkeypatch.setattr(engine, "OPS", dict(engine.OPS))  # the op goes with it

    @op
    def blocked(xp, x, /, budget=1 << 20):
        return xp.concat([x] * 100), lambda g: (xp.concat([g] * 2)[:4],)

    x = Tensor(standin.ndarray(np.ones(4)), requires_grad=True)
    y, g = blocked(x), standin.ndarray(np.ones(400))
    device.limit = device.held + 100
    with pytest.raises(backend.OutOfMemory, match="^blocked of .*allocating 3,200 bytes.*or a smaller block: budget=1600 bytes"):
        blocked(x)
    with pytest.raises(backend.OutOfMemory, match="^backward of blocked, .*allocating 6,400 bytes.*: budget=3200 bytes"):
        y.backward(g)
    with pytest.raises(backend.OutOfMemory, match=r"exp of \(4,\)(?!.*budget)"):
        device.limit = device.held
        ops.exp(x)


def test_a_backward_that_does_not_fit_names_the_op(device):
    x = Tensor(standin.ndarray(np.ones((4, 8, 8, 2))), requires_grad=True)
    y = ops.max_pool2d(x, 2)
    g = standin.ndarray(np.ones(y.shape))
    device.limit = device.held + 1000
    with pytest.raises(backend.OutOfMemory, match=r"^backward of max_pool2d, g \(4, 4, 4, 2\) float64: memory ran out"):
        y.backward(g)


def test_an_array_that_does_not_fit_is_not_moved(device):
    like = standin.ndarray(np.ones(1, np.float32))
    device.limit = device.held + 100
    with pytest.raises(backend.OutOfMemory, match=r"moving an array of shape \(50,\) to cupy on <CUDA Device 0>: memory ran out"):
        backend.asarray(np.ones(50), like)


def test_a_host_that_is_full_says_so_too():
    with pytest.raises(backend.OutOfMemory, match=r"broadcast_to|multiply of .*unable to allocate .*; take a smaller batch"):
        huge = ops.broadcast_to(np.ones((1, 1)), (1 << 28, 1 << 24))  # 36 petabytes, as a view
        ops.multiply(huge, np.ones((1, 1)))


@pytest.mark.parametrize("text", ["cudaErrorMemoryAllocation: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_the_cuda_libraries_words_for_it_are_known(text):
    @op(register=False)
    def full(xp, x, /):
        raise RuntimeError(text)

    with pytest.raises(backend.OutOfMemory, match=f"^full of .*: memory ran out: .*{text[1:]}"):
        full(np.ones(2))


def test_cupys_own_error_is_told_the_same_way(cupy):
    """The real class: its words and its size are what the stand-in pretends."""
    real, pretended = cupy.cuda.memory.OutOfMemoryError(3200, 100), standin.OutOfMemoryError(3200, 100)
    assert isinstance(real, MemoryError)
    told = {str(errors.out_of_memory("x", error, budget=True)) for error in (real, pretended)}
    assert told == {"x: memory ran out: out of memory allocating 3,200 bytes (allocated so far: 100 bytes); take a smaller "
                    "batch (batch= of the recipe and of train.fit), or a smaller block: budget=1600 bytes"}


def test_training_that_outgrows_the_device_leaves_the_last_whole_epoch(device):
    """Putting the net back needs room: the step that did not fit must have let go of its arrays first."""
    if ("cupy", "keep_hide_invert") not in engine.FAST:
        pytest.skip("no compiler here (g++) for CuPy's kernels, and plain versions need more room before they multiply")
    net = models.fcn(SignedSupermask(), np.random.default_rng(0), (8, 8, 3), (2000, 2), backend="cupy")
    optimizer, states, record = optim.SGDW(net.parameters(), 0.02, 1e-3), [], train.new_record()

    def tighten(record):  # room for the first layer's mask, not for its weight too
        states.append(net.arrays())
        device.limit = device.held + 1.6 * net.parameters()[0].data.nbytes

    with pytest.raises(backend.OutOfMemory, match=r"^multiply of \(192, 2000\) float32, .*memory ran out"):
        train.fit(net, small_set(), optimizer, 5, np.random.default_rng(0), 32, record, on_epoch=tighten)
    assert len(record["epochs"]) == len(states) == 1
    assert all(np.array_equal(a, b) for a, b in zip(states[0].values(), net.arrays().values()))


def test_the_command_line_says_it_in_one_sentence_and_keeps_the_run(device, folder, capsys):
    if ("cupy", "keep_hide_invert") not in engine.FAST:
        pytest.skip("no compiler here (g++) for CuPy's kernels, and plain versions need more room before the first step")
    device.limit = device.held + 900_000  # the net's arrays, and the first products
    assert main(["train", "digits", "--epochs", "1", "--quiet", "--backend", "cupy", "--out", "a"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("minimask: ") and "memory ran out" in error and "smaller batch" in error
    assert error.rstrip().endswith("saved in a") and error.count("\n") == 1 and "bug" not in error
    device.limit = None
    net, record = runs.load("a", data.digits())
    assert record["epochs"] == [] and net.size() == 50_200
    device.limit = device.held + 10  # not even the net
    assert main(["train", "digits", "--epochs", "1", "--quiet", "--backend", "cupy", "--out", "b"]) == 1
    error = capsys.readouterr().err
    assert "memory ran out: out of memory allocating" in error and error.count("\n") == 1 and "bug" not in error
    assert "saved" not in error and not os.path.exists("b/record.json")


def test_a_recipe_of_another_backend_is_built_there(library):
    net = recipes.find("digits").build(data.digits(), np.random.default_rng(0), library.backend)
    library.host(net.parameters()[0])
    assert net.parameters()[0].dtype == backend.namespace(library.like).float32


def test_a_step_asks_little_of_a_gpu(monkeypatch):
    """Kernels launched in a step of Conv2, and trips to the host: the loss and the logits there, images and labels back."""
    standin.install(monkeypatch)
    if ("cupy", "keep_hide_invert") not in engine.FAST:
        pytest.skip("no compiler here (g++) for CuPy's kernels, which this counts")
    images, labels = np.zeros((32, 8, 8, 3), np.uint8), np.zeros(32, np.uint8)
    images[:, ::2] = 200
    dataset = data.Dataset("stripes", images, labels, images, labels, tuple("0123456789"))
    net = models.conv2(weights=SignedSupermask(), rng=np.random.default_rng(0), input_shape=(8, 8, 3), backend="cupy")
    training = loop.Training(net, dataset, optim.SGDW(net.parameters(), 0.04), np.random.default_rng(0), 32, train.new_record())
    standin.Count.reset()
    training.train_step()
    assert (standin.Count.fetched, standin.Count.sent) == (2, 3)  # sent: a zero of the loss, too
    assert standin.Count.launches <= 80
