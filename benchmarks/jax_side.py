"""Another side of the comparison: the same nets, masks and update in JAX, one jitted function a step."""

import jax
import jax.numpy as jnp
import numpy as np

from minimask import nn


class JaxSide:
    """A net of ours with signed supermasks, rebuilt in JAX; images are NHWC, its state is given away to every step."""

    def __init__(self, net, recipe):
        self.scores, self.frozen = [], []
        self.forward = self.chain(net.layers.values())
        self.velocity = [jnp.zeros_like(m) for m in self.scores]
        lr, keep, mu = recipe.lr, 1 - recipe.wd, recipe.momentum

        def loss(m, w, x, y):
            out = self.forward(m, w, x)
            return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], axis=1).mean()

        def update(m, v, w, x, y):
            value, g = jax.value_and_grad(loss)(m, w, x, y)
            v = [mu * u - lr * d for u, d in zip(v, g)]
            return [keep * p + mu * u - lr * d for p, u, d in zip(m, v, g)], v, value

        self.update = jax.jit(update, donate_argnums=(0, 1))

    def leaf(self, array, frozen=None):
        """The place of a trained array, and of the frozen weights that belong to it (None: it is trained itself)."""
        self.scores.append(jnp.asarray(array.copy()))
        self.frozen.append(None if frozen is None else jnp.asarray(frozen))
        return len(self.scores) - 1

    def weight(self, source):
        """A function of scores and frozen weights that gives a layer's effective weight, straight through."""
        at, tau = self.leaf(source.scores.data, source.frozen), source.tau

        def effective(m, w):
            mask = (m[at] > tau).astype(m[at].dtype) - (m[at] < -tau).astype(m[at].dtype)
            return w[at] * (mask + (m[at] - jax.lax.stop_gradient(m[at])))

        return effective

    def chain(self, layers):
        calls = [self.translate(layer) for layer in layers]

        def run(m, w, x):
            for call in calls:
                x = call(m, w, x)
            return x

        return run

    def translate(self, layer):
        """One of our layers as a function of scores, frozen weights and x."""
        if isinstance(layer, nn.Dense):
            weight = self.weight(layer.weight)
            return lambda m, w, x: x @ weight(m, w)
        if isinstance(layer, nn.Conv2D):
            weight, stride, same = self.weight(layer.weight), layer.stride, layer.padding == "same"
            pad = layer.shape[0] // 2 if same else 0
            return lambda m, w, x: jax.lax.conv_general_dilated(
                x, weight(m, w), (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if isinstance(layer, nn.MaxPool2D):
            window, stride, pad = layer.window, layer.stride, (layer.window - 1) // 2 if layer.padding == "same" else 0
            return lambda m, w, x: jax.lax.reduce_window(
                x, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, stride, stride, 1),
                [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        if isinstance(layer, nn.BatchNorm):
            scale, shift = self.leaf(layer.scale.data), self.leaf(layer.shift.data)
            return lambda m, w, x: ((x - x.mean((0, 1, 2))) * jax.lax.rsqrt(x.var((0, 1, 2)) + 1e-3) * m[scale]
                                    + m[shift])
        if isinstance(layer, nn.Residual):
            main, around = self.chain(layer.main.values()), self.chain(layer.shortcut.values())
            return lambda m, w, x: jax.nn.elu(main(m, w, x) + around(m, w, x))
        simple = {nn.ELU: jax.nn.elu, nn.Flatten: lambda x: x.reshape(len(x), -1),
                  nn.GlobalAvgPool: lambda x: x.mean((1, 2))}[type(layer)]
        return lambda m, w, x: simple(x)

    def step(self, x, labels):
        self.scores, self.velocity, loss = self.update(self.scores, self.velocity, self.frozen, x, labels)
        return float(loss)

    def images(self, array):
        """A batch of ours, (n, h, w, c), as this side takes it."""
        return np.ascontiguousarray(array)
