"""Using trained nets: logits without Tensors, classes and confidences, image files, and the three commands."""


import numpy as np
import pytest
from test_prune import KINDS, chain

from minimask import (
    UsageError,
    backend,
    data,
    models,
    nn,
    no_grad,
    predict,
    prune,
    resnet,
)
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


@pytest.mark.parametrize("kind", [nn.Dense, nn.ELU, nn.Flatten, resnet.Residual])
def test_a_layer_of_ones_own_is_called_whatever_it_is_a_kind_of(kind):
    class Own(kind):
        def __call__(self, x, training=False):
            return super().__call__(x, training) * 2.0 + 1.0

    rng = np.random.default_rng(0)
    layers = {nn.Flatten: nn.Flatten(), nn.Dense: nn.Dense(12, 5, Trained(), rng), nn.ELU: nn.ELU()}
    own = {nn.Dense: lambda: Own(12, 5, Trained(), rng), resnet.Residual: lambda: Own([nn.ELU()], [])}.get(kind, Own)()
    net = nn.Sequential([*({**layers, kind: own}).values(), nn.Dense(5, 2, Trained(), rng)], (3, 2, 2))
    x = rng.standard_normal((3, 3, 2, 2)).astype(np.float32)
    assert np.allclose(predict.forward(net)(x), tensors(net, x), rtol=1e-5, atol=1e-6)


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
