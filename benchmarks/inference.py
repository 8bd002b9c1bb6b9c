"""Images through a trained net, side by side in one process, alternating: dense, pruned, and PyTorch eager.

    python benchmarks/inference.py tiny.mmk          # a net that `minimask export` wrote
    python benchmarks/inference.py                   # the FCN with a random mask of the paper's density: said so
    python benchmarks/inference.py tiny.mmk --json FILE

All sides get the same standardised images and give logits; weights are made before the clock starts. "dense" is the net
as it is, "pruned" what exact pruning leaves of it, both through predict.forward; PyTorch runs the dense net in
inference mode. With an FCN for MNIST the large batch is its 10,000 test images (MINIMASK_DATA), or random ones. Then
Conv2 with random masks of the paper's density, 0.6 %, and single dense layers both ways: as a product, and by gathering
what each unit reads, which predict.py takes by a rule found here. Machines are noisy: read the ratios, medians over
rounds of the ratio within a round. Needs the extra `oracle` for PyTorch; without it that column is left out.
"""

import argparse
import importlib.util
import json
import os
import statistics
import time

import numpy as np

from minimask import data, export, models, no_grad, predict, prune, train
from minimask.backend import MinimaskError
from minimask.fast.memory import kept_memory
from minimask.fast.threads import blas_threads
from minimask.mask import SignedSupermask
from minimask.prune import Fixed

#: Single layers: (in, out), share of weights left, images.
LAYERS = [(shape, share, images) for shape in ((784, 300), (2048, 256), (16384, 256))
          for share in (0.003, 0.009, 0.03, 0.1) for images in (1, 16, 64)]


def alternate(calls, rounds, repeats):
    """Rounds of `repeats` calls of each side in turn: (median seconds of each, median ratio of each to the second).

    The first call of each turn is not counted, nor is the first round.
    """
    rows = []
    for _ in range(rounds + 1):
        row = []
        for call in calls:
            with kept_memory():
                call()
                row.append(statistics.median(timed(call) for _ in range(repeats)))
        rows.append(row)
    return ([statistics.median(column) for column in zip(*rows[1:])],
            [statistics.median(row[i] / row[1] for row in rows[1:]) for i in range(len(calls))])


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def random_net(name, share):
    """A net of the paper's with a random mask that leaves this share of every layer, its last layer dense."""
    rng = np.random.default_rng(0)
    net = models.MODELS[name](weights=SignedSupermask(tau=0.0), rng=rng)
    for layer in (layer for layer in net.layers.values() if layer.weight is not None):
        kept = rng.random(layer.shape) < (share if layer.shape[-1] > 10 else 1.0)
        with no_grad():
            layer.weight = Fixed(layer.weight.effective().data * kept)
    return net


def torch_side(net, x):
    """The dense net as PyTorch's users write it, a Sequential of modules, on the images x in NCHW: a call to time."""
    import torch

    from minimask import nn

    def translate(layer):
        if isinstance(layer, nn.Dense):
            return with_weight(torch.nn.Linear(*layer.shape, bias=False), layer, (1, 0))
        if isinstance(layer, nn.Conv2D):
            kernel, _, inputs, outputs = layer.shape
            module = torch.nn.Conv2d(inputs, outputs, kernel, padding="same", bias=False)
            return with_weight(module, layer, (3, 2, 0, 1))
        if isinstance(layer, nn.MaxPool2D):
            return torch.nn.MaxPool2d(layer.window, layer.stride)
        return {nn.ELU: torch.nn.ELU, nn.Flatten: torch.nn.Flatten}[type(layer)]()

    def with_weight(module, layer, axes):
        module.weight.data = torch.tensor(layer.weight.effective().data.transpose(axes).copy())
        return module

    with no_grad():
        module = torch.nn.Sequential(*map(translate, net.layers.values())).eval()
    images = torch.tensor(x).permute(0, 3, 1, 2).contiguous()

    def call():
        with torch.inference_mode():
            return module(images)

    return call


def measure(name, net, images, rounds, repeats, torch):
    """A row: the net on these images, dense, pruned and in PyTorch."""
    smaller = prune.prune(net)
    dense, pruned = predict.forward(net), predict.forward(smaller)
    calls = [lambda: dense(images), lambda: pruned(images)] + ([torch_side(net, images)] if torch else [])
    a, b = dense(images), pruned(images)
    error = float(np.abs(a - b).max() / np.abs(a).max())
    seconds, ratios = alternate(calls, rounds, repeats)
    row = {"net": name, "images": len(images), "dense_us": 1e6 * seconds[0], "pruned_us": 1e6 * seconds[1],
           "pruned_to_dense": 1 / ratios[0], "error": error, "size": vars(prune.size(net)),
           "left": vars(prune.size(smaller))}
    theirs = ""
    if torch:
        row |= {"torch_us": 1e6 * seconds[2], "pruned_to_torch": 1 / ratios[2]}
        theirs = f"{row['torch_us']:>13,.0f}"
    columns = {"pruned_to_dense": 15, "pruned_to_torch": 17}
    ratios = "".join(f"{row[key]:>{wide}.2f}" for key, wide in columns.items() if key in row)
    print(f"{name:22}{len(images):>7,}{row['dense_us']:>13,.0f}{row['pruned_us']:>13,.0f}{theirs}{ratios}", flush=True)
    return row


def measure_layer(shape, share, images, rounds):
    """A row: one dense layer as a product and by gathering."""
    rng = np.random.default_rng(0)
    weight = np.where(rng.random(shape) < share, rng.choice([-1.0, 1.0], shape), 0).astype(np.float32)
    x = rng.standard_normal((images, shape[0])).astype(np.float32)
    gather = predict.gathered(weight)
    seconds, ratios = alternate([lambda: predict.product(x, weight), lambda: gather(x)], rounds, 5)
    taken = (weight.size >= predict.GATHER_WEIGHTS and np.count_nonzero(weight) <= predict.GATHER_SHARE * weight.size
             and images <= predict.GATHER_IMAGES)
    print(f"{shape[0]:>6} x {shape[1]:<6}{share:>8.1%}{images:>8}{1e6 * seconds[0]:>13,.0f}{1e6 * seconds[1]:>13,.0f}"
          f"{1 / ratios[0]:>9.2f}  {'gathered' if taken else ''}", flush=True)
    return {"shape": shape, "share": share, "images": images, "product_us": 1e6 * seconds[0],
            "gather_us": 1e6 * seconds[1],
            "gather_to_product": 1 / ratios[0], "gathered": bool(taken)}


def test_images(shape, count):
    """Standardised MNIST test images where they fit and are there, else random ones of that shape."""
    if shape == (28, 28, 1):
        try:
            return data.standardise(data.mnist().test_images[:count]), "MNIST's test images"
        except MinimaskError:
            pass
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32), "random images"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="of `minimask export`; without one, an FCN with a random mask")
    parser.add_argument("--json", metavar="FILE", help="write a record there")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each side (default: 15)")
    parser.add_argument("--threads", type=int, help="threads of both sides (default: all cores)")
    options = parser.parse_args()
    net, name = ((export.load(options.file).net, "the file's net") if options.file
                 else (random_net("fcn", 0.0377), "fcn, random mask"))
    torch = importlib.util.find_spec("torch") is not None
    threads = options.threads or os.cpu_count()
    if torch:
        import torch as library

        library.set_num_threads(threads)
    record = {"environment": train.environment(), "threads": threads, "file": bool(options.file), "nets": [],
              "layers": []}
    with blas_threads(threads):
        images, which = test_images(net.input_shape, 10_000)
        print(f"{threads} threads, {which}; microseconds")
        print(f"{'':22}{'images':>7}{'dense':>13}{'pruned':>13}"
              + (f"{'PyTorch':>13}{'pruned/dense':>15}{'pruned/PyTorch':>17}" if torch else f"{'pruned/dense':>15}"))
        for count, repeats in ((10_000, 3), (1, 100)):
            record["nets"].append(measure(name, net, images[:count], options.rounds, repeats, torch))
        few = max(1, options.rounds // 3)  # rounds of what takes longer
        conv2, (colour, _) = random_net("conv2", 0.006), test_images((32, 32, 3), 100)
        for count, repeats in ((100, 1), (1, 10)):
            record["nets"].append(measure("conv2, random mask", conv2, colour[:count], few, repeats, torch))
        print(f"\n{'dense layer':15}{'left':>8}{'images':>8}{'product':>13}{'gather':>13}{'ratio':>9}")
        for layer in LAYERS:
            record["layers"].append(measure_layer(*layer, few))
    for row in record["nets"]:
        assert row["error"] < 1e-5, row
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
