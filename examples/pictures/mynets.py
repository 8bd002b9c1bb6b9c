"""The net that shapes.toml names. minimask calls it with all it needs to know, and with model_settings."""

from minimask import nn


def cnn(weights, rng, input_shape, backend, classes, channels=(8, 16)):
    """Convolutions of 3 x 3, each with a pooling of 2 x 2 behind it; the mean of each channel; a dense layer."""
    layers, inputs = [], input_shape[2]
    for outputs in channels:
        layers += [nn.Conv2D(inputs, outputs, 3, weights, rng, backend=backend), nn.ELU(), nn.MaxPool2D(2)]
        inputs = outputs
    return nn.Sequential([*layers, nn.GlobalAvgPool(), nn.Dense(inputs, classes, weights, rng, backend=backend)],
                         input_shape)
