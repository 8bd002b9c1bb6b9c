"""Using trained nets: logits without Tensors, classes and confidences, image files, and the three commands."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_prune import KINDS, chain

from minimask import (
    MinimaskError,
    UsageError,
    backend,
    data,
    export,
    models,
    nn,
    no_grad,
    plot,
    predict,
    prune,
    recipes,
    runs,
    train,
)
from minimask.__main__ import main
from minimask.data import images as imagefiles
from minimask.mask import SignedSupermask, Trained
from minimask.prune import Fixed


def tensors(net, x):
    with no_grad():
        return net(x).data


# ---- logits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_the_net(kind, n):
    net = chain(kind, 0.3, 1, "float32")
    x = np.random.default_rng(0).standard_normal((n, *net.input_shape)).astype(np.float32)
    for each in (net, prune.prune(net)):
        result = predict.forward(each)(x)
        assert result.dtype == np.float32  # ELU of a few numbers takes another exponential
        assert np.allclose(result, tensors(each, x), rtol=1e-5, atol=1e-6)


def test_forward_of_masked_nets_residual_nets_and_large_batches():
    rng = np.random.default_rng(0)
    for net, n in ((models.fcn(SignedSupermask(tau=0.05), rng), 500),
                   (models.resnet20(weights=Trained(), rng=rng, input_shape=(8, 8, 3)), 2)):
        x = rng.standard_normal((n, *net.input_shape)).astype(np.float32)
        assert np.allclose(predict.forward(net)(x), tensors(net, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 5), (1, 3), (5, 1), (4, 0), (0, 4)])
@pytest.mark.parametrize("density", [0, 0.2, 1])
def test_gathering_is_the_product(shape, density):
    rng = np.random.default_rng(0)
    weight = np.where(rng.random(shape) < density, rng.standard_normal(shape), 0)
    for n in (0, 1, 4):
        x = rng.standard_normal((n, shape[0]))
        assert np.allclose(predict.gathered(weight)(x), x @ weight, rtol=1e-12, atol=1e-14)


def test_large_layers_of_few_weights_gather_for_few_images(monkeypatch):
    """By the rule that is stated, and to the same numbers."""
    rng, calls = np.random.default_rng(0), []
    real = predict.gathered

    def spy(weight):
        def multiply(x):
            calls.append(len(x))
            return real(weight)(x)
        return multiply

    monkeypatch.setattr(predict, "gathered", spy)
    for shape, share, n, expected in (((4096, 128), 0.005, 16, [16]), ((4096, 128), 0.005, 17, []), ((4096, 128), 0.02, 1, []),
                                      ((4096, 127), 0.005, 1, [])):
        weight = np.where(rng.random(shape) < share, rng.standard_normal(shape), 0).astype(np.float32)
        net = nn.Sequential([nn.Dense(*shape, Fixed(weight), rng)], shape[:1])
        x = rng.standard_normal((n, shape[0])).astype(np.float32)
        assert np.allclose(predict.forward(net)(x), x @ weight, rtol=1e-4, atol=1e-4)
        assert calls == expected
        calls.clear()


def test_forward_runs_in_the_nets_library():
    net = models.fcn(SignedSupermask(tau=0.05), np.random.default_rng(0), (8, 8, 1), (9, 4), backend="strict")
    x = np.random.default_rng(0).standard_normal((3, 8, 8, 1)).astype(np.float32)
    there = backend.asarray(x, net.parameters()[0].data)
    for each in (net, prune.prune(net)):
        result = predict.forward(each)(there)
        assert backend.namespace(result).__name__ == "array_api_strict"
        assert np.allclose(backend.to_host(result), backend.to_host(tensors(net, there)), rtol=1e-5, atol=1e-6)


def test_forward_names_images_of_another_shape():
    with pytest.raises(UsageError, match=r"images are \(2, 3, 4\), but \(n, 24\) is needed"):
        predict.forward(chain("plain rows", 0.5, 0))(np.ones((2, 3, 4)))


def test_classes_and_confidences_are_those_of_the_softmax():
    digits, rng = data.digits(), np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        net = models.fcn(Trained(), rng, digits.input_shape, (30, 10), dtype=dtype)
        classes, confidences = predict.classify(net, digits.test_images, batch=77)
        logits = tensors(net, data.standardise(digits.test_images, dtype)).astype(np.float64)
        softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert np.array_equal(classes, softmax.argmax(axis=1)) and np.allclose(confidences, softmax.max(axis=1), rtol=1e-5)
    empty = predict.classify(net, digits.test_images[:0])
    assert empty[0].shape == empty[1].shape == (0,)


def test_classify_refuses_what_is_no_image_of_the_net():
    net = models.fcn(Trained(), np.random.default_rng(0), (8, 8, 1), (10,))
    with pytest.raises(UsageError, match=r"the images are \(8, 9, 1\), but the net takes \(8, 8, 1\)"):
        predict.classify(net, np.ones((1, 8, 9, 1)))
    images = np.ones((3, 8, 8, 1))
    for value in (np.nan, np.inf, -np.inf):
        images[2, 1, 1, 0] = value
        with pytest.raises(UsageError, match="^image 2 holds NaN or infinity: mend the data"):
            predict.classify(net, images, batch=2)
    images[2, 1, 1, 0] = 1 + 1e-9  # but for this one all are blank
    with pytest.raises(UsageError, match="^classify: the values of an image differ by 1e-09 at most, but .* multiply"):
        predict.classify(net, images, batch=2)


@pytest.mark.parametrize("scale", [1e18, 1e20, 1e300])
def test_classify_is_free_of_scale(scale):
    """1e20 was 10 % confidence in everything, without a word."""
    net, images = models.fcn(Trained(), np.random.default_rng(0), (8, 8, 1)), data.digits().test_images
    (classes, confidences), (scaled, same) = (predict.classify(net, x) for x in (images, images * scale))
    assert np.array_equal(classes, scaled)
    np.testing.assert_allclose(confidences, same, rtol=1e-4)


@pytest.mark.parametrize("name", ["fcn", "conv2", "resnet20"])
def test_masks_are_applied_once_and_not_at_every_call(name, monkeypatch):
    net = models.MODELS[name](SignedSupermask(tau=0.05), np.random.default_rng(0), input_shape=(8, 8, 3))
    x = np.random.default_rng(1).standard_normal((2, 8, 8, 3)).astype("float32")
    with no_grad():
        logits, forward = net(x).data, predict.forward(net)
    monkeypatch.setattr(SignedSupermask, "step", None)  # whoever asks for the mask now fails
    for _ in range(2):
        np.testing.assert_allclose(forward(x), logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max())


def test_confidence_of_large_logits():
    weight = np.zeros((4, 3), np.float32)
    weight[0] = 5000, 4000, -5000
    net = nn.Sequential([nn.Dense(4, 3, Fixed(weight), np.random.default_rng(0))], (4,))
    classes, confidences = predict.classify(net, np.array([[9.0, 0, 0, 0]]))
    assert classes.tolist() == [0] and confidences.tolist() == [1.0]


# ---- image files -----------------------------------------------------------------------------------------------------

GREY = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 1)).astype(np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)


def idx(images):
    return bytes([0, 0, 8, images.ndim]) + b"".join(n.to_bytes(4, "big") for n in images.shape) + images.tobytes()


def png(path, pixels, **options):
    from matplotlib import image

    image.imsave(path, pixels, format="png", **options)


def test_idx_raw_and_packed(tmp_path):
    for images in (GREY[..., 0], GREY, COLOUR):
        (tmp_path / "raw").write_bytes(idx(images))
        (tmp_path / "packed").write_bytes(gzip.compress(idx(images)))
        for name in ("raw", "packed"):
            read = imagefiles.read(tmp_path / name, images.shape[1:] if images.ndim == 4 else (4, 6, 1))
            assert np.array_equal(read.reshape(images.shape), images) and read.ndim == 4


@pytest.mark.parametrize("array", [GREY, GREY[0], GREY[..., 0], GREY[0, ..., 0], GREY / 255, GREY[:1].astype(np.int64)],
                         ids=lambda a: f"{a.shape} {a.dtype}")
def test_npy_of_one_or_many_grey_images(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    read = imagefiles.read(tmp_path / "a.npy", (4, 6, 1))
    assert np.array_equal(read, array.reshape(-1, 4, 6, 1)) and read.dtype == array.dtype


def test_colour_images_need_their_last_axis(tmp_path, monkeypatch):
    for array in (COLOUR[0, ..., 0], COLOUR[..., 0]):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(UsageError, match="but the net takes images of 4 x 6 x 3, one or n of them"):
            imagefiles.read(tmp_path / "a.npy", (4, 6, 3))
    monkeypatch.setattr(imagefiles, "LIMIT", COLOUR.nbytes - 1)
    np.save(tmp_path / "a.npy", COLOUR)
    with pytest.raises(UsageError, match="a.npy holds 360 bytes of uint8; needed are at most 359 of integers or floats"):
        imagefiles.read(tmp_path / "a.npy", (4, 6, 3))


def test_npy_of_colour_images(tmp_path):
    for array in (COLOUR, COLOUR[0]):
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(imagefiles.read(tmp_path / "a.npy", (4, 6, 3)), array.reshape(-1, 4, 6, 3))


def test_png_grey_and_colour(tmp_path):
    pytest.importorskip("matplotlib")
    png(tmp_path / "a.png", GREY[0, ..., 0], cmap="gray", vmin=0, vmax=255)  # written as red, green, blue, opaque
    assert np.array_equal(imagefiles.read(tmp_path / "a.png", (4, 6, 1)), GREY[:1])
    png(tmp_path / "a.png", COLOUR[0])
    assert np.array_equal(imagefiles.read(tmp_path / "a.png", (4, 6, 3)), COLOUR[:1])
    with pytest.raises(UsageError, match=r"a\.png is colour, but the net takes grey images; convert it"):
        imagefiles.read(tmp_path / "a.png", (4, 6, 1))
    png(tmp_path / "a.png", np.dstack([COLOUR[0], GREY[0]]))
    with pytest.raises(UsageError, match="is transparent, but the net takes colour images"):
        imagefiles.read(tmp_path / "a.png", (4, 6, 3))
    with pytest.raises(UsageError, match="is an image of 4 x 6 pixels, but the net takes 28 x 28 x 1: crop or scale"):
        imagefiles.read(tmp_path / "a.png", (28, 28, 1))
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:60])
    with pytest.raises(MinimaskError, match="cannot be decoded"):
        imagefiles.read(tmp_path / "a.png", (4, 6, 3))


def npy_header(shape, dtype="|u1"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(("content", "kind", "sentence"), [
    (b"", UsageError, "begins with b'': it is neither IDX"), (b"GIF89a", UsageError, "begins with b'GIF8'"),
    (idx(GREY[..., 0])[:-1], MinimaskError, "has 135 bytes, but its header promises 136"),
    (gzip.compress(idx(GREY[..., 0])[:-1]), MinimaskError, "holds fewer than the 120 bytes"),
    (gzip.compress(idx(GREY[..., 0]) + b"1"), MinimaskError, "holds more than the 120 bytes"),
    (gzip.compress(idx(GREY[..., 0]))[:-20], MinimaskError, "cannot be unpacked"),
    (idx(GREY[..., 0])[:9], UsageError, "its header is 00 00 08 03"),
    (b"\0\0\x0d\3" + bytes(99), UsageError, "its header is 00 00 0d 03"), (b"\0\0\x08\1" + bytes(99), UsageError, "00 00 08 01"),
    (idx(GREY[:, :3, :, 0]), UsageError, "holds an array of 5 x 3 x 6, but the net takes images of 4 x 6, one or n"),
    (bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" + bytes([0, 0, 0, 4, 0, 0, 0, 6]), UsageError, "at most 1,073,741,824 are"),
    (npy_header((10**9, 4, 6)), MinimaskError, "is no .npy file that can be read, or a damaged one"),
    (npy_header((1, 4, 6), "|O") + bytes(99), MinimaskError, "is no .npy file"),
    (npy_header((1, 4, 6), "<c8") + bytes(192), UsageError, "192 bytes of complex64; needed are"),
    (npy_header((1, 4, 7)) + bytes(28), UsageError, "holds an array of 1 x 4 x 7"),
    (b"\x93NUMPY\x01\x00", MinimaskError, "is no .npy file")])
def test_wrong_image_files(tmp_path, content, kind, sentence):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(kind, match=sentence) as caught:
        imagefiles.read(tmp_path / "a", (4, 6, 1))
    assert type(caught.value) is kind


def test_a_missing_image_file_and_a_folder(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        imagefiles.read(tmp_path / "a", (4, 6, 1))
    with pytest.raises(MinimaskError, match="cannot be read"):
        imagefiles.read(tmp_path, (4, 6, 1))


def test_damaged_image_files_end_in_a_sentence(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", GREY)
    contents = [idx(GREY), gzip.compress(idx(GREY), mtime=0), (tmp_path / "a.npy").read_bytes()]
    for number in range(600):
        changed = bytearray(contents[number % 3])
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(min(len(changed), 140)))] = int(rng.integers(256))
        (tmp_path / "b").write_bytes(bytes(changed[:int(rng.integers(len(changed) + 1))] if number % 5 == 0 else changed))
        try:
            assert imagefiles.read(tmp_path / "b", (4, 6, 1)).shape[1:] == (4, 6, 1)
        except MinimaskError as error:
            assert "\n" not in str(error) and str(error)


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a short run on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run("digits", 15, 1, folder)
    return folder


def run(recipe, epochs, seed, folder):
    """What `minimask train --dataset digits` leaves, but for the pictures."""
    runs.run(replace(recipes.find(recipe), dataset="digits", epochs=epochs), data.digits(), seed, folder)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIMASK_DATA", raising=False)
    return tmp_path


def test_export_info_predict(folder, trained, capsys):
    """The main job: a file that knows nothing of the run, and the same classes from it."""
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    size = os.path.getsize("tiny.mmk")
    assert f"tiny.mmk: {size:,} bytes in place of 200,800 as float32" in capsys.readouterr().out

    digits = data.digits()
    net, classes = export.load("tiny.mmk").net, tuple("0123456789")
    np.save("digits.npy", digits.test_images)
    assert main(["predict", "tiny.mmk", "digits.npy"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    found, confidences = predict.classify(net, digits.test_images)
    assert [line[0] for line in lines] == [f"digits.npy[{i}]" for i in range(360)]
    assert [line[1] for line in lines] == [classes[i] for i in found]
    assert [line[2] for line in lines] == [f"{c:.1%}" for c in confidences]
    assert (found == digits.test_labels).mean() > 0.9

    assert main(["predict", "tiny.mmk", "digits.npy", "digits.npy", "--first", "1", "--backend", "strict"]) == 0
    assert capsys.readouterr().out.splitlines() == ["\t".join(["digits.npy", *lines[0][1:]])] * 2

    assert main(["info", "tiny.mmk"]) == 0
    out = capsys.readouterr().out
    assert "tiny.mmk: digits on digits, seed 1, epoch 15: " in out
    assert "images of 8 x 8 x 1 -> 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in out
    assert f"{size:,} bytes on disk, {export.load('tiny.mmk').header_size:,} of them header" in out
    assert "200,800 bytes as float32" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("dense", "all"))}
    stored = export.load("tiny.mmk").stored
    for name, each in stored.items():
        assert rows[name][1] == each.codec and rows[name][-5:] == [f"{each.plus:,}", f"{each.minus:,}", f"{(each.plus + each.minus) / each.weights:.1%}",
                                   f"{each.bytes:,}", f"{each.bound:,.0f}"]
    after = prune.size(prune.prune(net))
    assert f"pruned: {after.units:,} of 410 units, {after.weights:,} of 50,200 weights, {after.multiply_adds:,} of" in out


def test_what_is_exported_is_the_run(folder, trained):
    assert main(["export", str(trained), "-o", "tiny.mmk", "--codec", "base243"]) == 0
    net, record = runs.load(trained, data.digits())
    exported = export.load("tiny.mmk")
    x = data.standardise(data.digits().test_images)
    assert np.array_equal(tensors(exported.net, x), tensors(net, x)) and exported.classes == data.digits().classes
    assert {each.codec for each in exported.stored.values()} == {"base243"}
    assert f"{record['epochs'][-1]['test_accuracy']:.2%}" in exported.about


@pytest.mark.parametrize("recipe", ["digits-dense", "fcn-uniform", "fcn-binary", "fcn-edge-popup"])
def test_every_method_is_exported(folder, recipe):
    """On the digits, for an epoch; uniform frozen weights come back by seed and rule."""
    run(recipe, 1, 4, folder / "run")
    assert main(["export", "run", "-o", "tiny.mmk"]) == 0
    net, _ = runs.load("run", data.digits())
    x = data.standardise(data.digits().test_images)
    exported = export.load("tiny.mmk")
    assert np.array_equal(tensors(exported.net, x), tensors(net, x))
    drawn = {"fcn-uniform": True}.get(recipe, False)
    assert [each.frozen is not None for each in exported.stored.values()] == [drawn] * 3


@pytest.mark.parametrize(("words", "status", "sentence"), [
    (["export", "RUN"], 2, "the following arguments are required: -o/--out"),
    (["export", "RUN", "-o", "tiny.onx"], 2, "the name says what to write, and must end in .mmk"),
    (["export", "RUN", "-o", "no/tiny.mmk"], 2, "there is no folder no"),
    (["export", "RUN", "-o", "there.mmk"], 2, "there.mmk is there already: give another name, or --overwrite"),
    (["export", "nothing", "-o", "tiny.mmk"], 2, "nothing holds no record.json"),
    (["export", "RUN", "-o", "tiny.mmk", "--codec", "zip"], 2, "invalid choice: 'zip'"),
    (["exprot", "RUN"], 2, "did you mean 'export'"),
    (["info", "there.mmk"], 1, "it begins with b'not one' where b'minimask' is needed"),
    (["info", "nothing.mmk"], 2, "there is no nothing.mmk; `minimask export RUN -o nothing.mmk` makes one"),
    (["predict", "nothing.mmk", "a.png"], 2, "there is no nothing.mmk"),
    (["predict", "good.mmk", "nothing.png"], 2, "there is no nothing.png"),
    (["predict", "good.mmk"], 2, "the following arguments are required: IMAGES"),
    (["predict", "good.mmk", "there.mmk"], 2, "it is neither IDX (.gz too) nor .npy nor .png"),
    (["predict", "good.mmk", "there.mmk", "--backend", "jax"], 2, "unknown backend 'jax'")])
def test_mistakes_get_one_sentence(folder, trained, capsys, words, status, sentence):
    (folder / "there.mmk").write_bytes(b"not one")
    export.save("good.mmk", models.fcn(SignedSupermask(), np.random.default_rng(0), (8, 8, 1), (10,)), tuple("0123456789"))
    assert main([str(trained) if word == "RUN" else word for word in words]) == status
    out, error = capsys.readouterr()
    assert not out and error.startswith("minimask: ") and error.count("\n") == 1 and sentence in error
    assert (folder / "there.mmk").read_bytes() == b"not one" and not (folder / "tiny.mmk").exists()


def test_overwrite_replaces(folder, trained):
    (folder / "there.mmk").write_bytes(b"not one")
    assert main(["export", str(trained), "-o", "there.mmk", "--overwrite"]) == 0
    assert export.load("there.mmk").size > 1000


def test_the_classes_have_the_names_of_the_data_set(folder, trained, monkeypatch):
    monkeypatch.setitem(data.OUTLINES, "digits", ((8, 8, 1), tuple("abcdefghij")))
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    assert export.load("tiny.mmk").classes == tuple("abcdefghij")


def test_images_that_are_none_are_named_with_their_file(folder, trained, capsys):
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    np.save("good.npy", np.ones((1, 8, 8)))
    for array, sentence in ((np.full((2, 8, 8), np.inf), "bad.npy: image 0 holds NaN or infinity: mend the data"),
                            (np.ones((0, 8, 8)), "bad.npy holds no image")):
        np.save("bad.npy", array)
        capsys.readouterr()
        assert main(["predict", "tiny.mmk", "good.npy", "bad.npy"]) == 2
        out, error = capsys.readouterr()
        assert out.startswith("good.npy\t") and error == f"minimask: {sentence}\n"
    assert main(["export", "good.npy", "-o", "b.mmk"]) == 2 and "good.npy holds no record.json" in capsys.readouterr().err


def test_a_run_on_data_that_only_python_knows(folder, trained, capsys):
    (folder / "run").mkdir()
    (folder / "run/record.json").write_text(json.dumps(train.new_record({}, 0, "mine")))
    assert main(["export", "run", "-o", "a.mmk"]) == 2
    assert "unknown dataset 'mine'" in capsys.readouterr().err


def test_without_matplotlib_a_png_is_refused_with_the_way_out(folder, monkeypatch):
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(plot.MissingMatplotlib, match="pip install matplotlib"):
        imagefiles.read("a.png", (4, 6, 1))


def test_predicting_needs_no_more_than_the_file(folder, trained):
    """In a process of its own, with the run gone from sight, no data folder and no matplotlib."""
    assert main(["export", str(trained), "-o", "tiny.mmk"]) == 0
    np.save("one.npy", data.digits().test_images[0])
    (folder / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "minimask", "predict", "tiny.mmk", "one.npy"], capture_output=True,
                          text=True, timeout=120, env=environment)
    assert done.returncode == 0 and done.stdout.startswith("one.npy\t") and done.stderr == ""


# ---- MNIST -----------------------------------------------------------------------------------------------------------


def test_mnists_own_files_are_images(mnist_folder):
    dataset = data.mnist(mnist_folder)
    path = next(path for name in ("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz")
                if os.path.exists(path := os.path.join(mnist_folder, "mnist", name)))
    assert np.array_equal(imagefiles.read(path, (28, 28, 1)), dataset.test_images)
