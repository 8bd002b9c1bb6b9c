"""A whole training of the FCN on MNIST, side by side: ours with and without shrinking, PyTorch, JAX; epoch by epoch.

    python benchmarks/runs.py                           # 100 epochs of each side in turn
    python benchmarks/runs.py --short 5                 # a fifth of the epochs, through about the same states
    python benchmarks/runs.py --rounds 3 --json FILE    # three runs of each, and a record
    python benchmarks/runs.py --sides shrink,whole      # some sides only

All sides train recipe `fcn`: the same masks, frozen weights and first scores, the same update under the same schedule,
batches of 128, every image standardised in its step, and the held-out images evaluated after every epoch; all of that
is in the time. Each has an order of its own, so accuracies differ as seeds do. They take turns epoch by epoch, on the
same cores (--threads, all sides pinned to as many), so that a machine that slows down for a while slows all of them.
What `torch.compile` and `jax.jit` take to compile is measured apart. A side that cannot be had here is left out, and it
is said why: PyTorch is the extra `oracle`, JAX is `pip install jax`.

--short K: epochs / K, both rates K times as large and falling K times as fast, so that the run passes about the same
states. With K = 5 and seed 0 the first layer had 198, 148, 121 and 106 of its 300 units left after 20, 30, 50 and 100 %
of the run, 156, 104, 90 and 89 in a run of 100 epochs: a little more work, not less. Read the ratios, not the seconds.
Without MNIST (MINIMASK_DATA) the images are drawn: ten classes, each a pattern with noise over it.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import statistics
import time
from dataclasses import replace

import numpy as np

from minimask import backend, checkpoint, data, recipes, shrink, train
from minimask.fast.memory import kept_memory
from minimask.fast.threads import blas_threads

BATCH = 128
SIDES = {"shrink": "ours", "whole": "ours, --no-shrink", "eager": "PyTorch eager", "compile": "torch.compile",
         "jax": "JAX jit"}


def mnist_or_drawn():
    """MNIST, or images of its size that a net can learn."""
    try:
        return data.load("mnist")
    except backend.MinimaskError:
        rng = np.random.default_rng(0)
        patterns = rng.integers(0, 2, (10, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)[..., None]
        parts = []
        for n in (60_000, 10_000):
            labels = rng.integers(0, 10, n).astype(np.uint8)
            parts += [(patterns[labels] * 100 + rng.integers(0, 156, (n, 28, 28, 1))).astype(np.uint8), labels]
        return data.Dataset("drawn images of MNIST's size", *parts, tuple("0123456789"))


def shortened(recipe, by):
    """The recipe in 1/by of its epochs, through about the same states."""
    fall = recipe.schedule_settings.get("epochs", 10.0)
    return replace(recipe, epochs=max(1, math.ceil(recipe.epochs / by)), lr=recipe.lr * by, wd=recipe.wd * by,
                   schedule_settings={**recipe.schedule_settings, "epochs": fall / by})


class Ours:
    """A run of ours, an epoch at a time, as train.fit goes through it."""

    compiled = 0.0

    def __init__(self, recipe, dataset, seed, shrinks):
        rng = np.random.default_rng(seed)
        net = recipe.build(dataset, rng)
        self.training = train.Training(net, dataset, recipe.optimizer_of(net, dataset), rng, BATCH, train.new_record())
        self.listeners = [shrink.Shrinker()] if shrinks else []
        for listener in self.listeners:
            listener.begin(self.training)

    def epoch(self):
        with kept_memory():
            self.training.train_epoch(self.listeners)
            entry = self.training.end_epoch()
            for listener in self.listeners:
                listener.epoch(self.training, entry, 0)
        self.accuracy, self.left = entry["test_accuracy"], entry["weights_left"]
        self.units = [layer["units"] - layer["dead"] for layer in entry["layers"] if "dead" in layer]


class Other:
    """What PyTorch's and JAX's sides share: the arrays that they begin with, the order, the schedule, evaluation."""

    def __init__(self, recipe, dataset, seed):
        net = recipe.build(dataset, np.random.default_rng(seed))
        self.sources = [source for source in net.weights().values()]
        self.frozen = [source.frozen.copy() for source in self.sources]
        self.scores = [source.scores.data.copy() for source in self.sources]
        self.tau, self.recipe, self.dataset = [source.tau for source in self.sources], recipe, dataset
        self.rng, self.steps = np.random.default_rng(seed + 1), 0
        self.schedule = recipe.schedule_of(math.ceil(len(dataset.train_images) / BATCH))
        self.floor = math.prod(dataset.input_shape) ** -0.5
        self.images = dataset.train_images.reshape(len(dataset.train_images), -1)  # (n, 784) uint8
        self.test_images = dataset.test_images.reshape(len(dataset.test_images), -1)
        start = time.perf_counter()
        self.prepare()
        self.compiled = time.perf_counter() - start

    def epoch(self):
        order, labels = self.rng.permutation(len(self.images)), self.dataset.train_labels.astype(np.int64)
        loss_sum = right = 0
        for start in range(0, len(order), BATCH):
            chosen = order[start:start + BATCH]
            factor = self.schedule(self.steps)
            loss, hits = self.step(self.images[chosen], labels[chosen], self.recipe.lr * factor,
                                   1 - self.recipe.wd * factor)
            loss_sum, right, self.steps = loss_sum + loss * len(chosen), right + hits, self.steps + 1
        hits = sum(self.hits(self.test_images[i:i + 1000], self.dataset.test_labels[i:i + 1000].astype(np.int64))
                   for i in range(0, len(self.test_images), 1000))
        self.accuracy = hits / len(self.test_images)
        self.left = sum(self.counts()) / sum(frozen.size for frozen in self.frozen)

    def sizes(self):
        """How large the batches of an epoch are, and those of evaluation."""
        return {BATCH, len(self.images) % BATCH or BATCH}


class Torch(Other):
    """PyTorch, eager or compiled."""

    def __init__(self, *arguments, compiles):
        self.compiles = compiles
        super().__init__(*arguments)

    def prepare(self):
        import torch

        self.torch, F = torch, torch.nn.functional
        frozen = [torch.tensor(w) for w in self.frozen]
        self.m = [torch.tensor(m).requires_grad_() for m in self.scores]
        self.v = [torch.zeros_like(m) for m in self.m]
        mu, tau, floor = self.recipe.momentum, self.tau, self.floor

        def logits(x, m):
            x = x.float()
            std, mean = torch.std_mean(x, dim=1, correction=0, keepdim=True)
            x = (x - mean) / torch.clamp(std, min=floor)
            for i, (w, s, t) in enumerate(zip(frozen, m, tau)):
                mask = (s > t).to(s.dtype) - (s < -t).to(s.dtype)
                x = (F.elu(x) if i else x) @ (w * (mask + (s - s.detach())))  # straight through: s - s is exactly 0
            return x

        def loss(x, y, m):
            out = logits(x, m)
            return F.cross_entropy(out, y), (out.argmax(1) == y).sum()

        def update(m, v, g, lr, keep):
            for p, u, d in zip(m, v, g):
                p.mul_(keep)
                u.mul_(mu).sub_(lr * d)
                p.add_(u, alpha=mu).sub_(lr * d)

        self.logits, self.loss, self.update = logits, loss, update
        if self.compiles:
            self.loss, self.update = torch.compile(loss), torch.compile(update)
            self.logits = torch.compile(logits)
            state = [each.clone() for each in (*self.m, *self.v)]
            for n in sorted(self.sizes(), reverse=True):
                self.step(self.images[:n], np.zeros(n, np.int64), 0.0, 1.0)
            self.hits(self.test_images[:1000], np.zeros(1000, np.int64))
            with torch.no_grad():
                for now, before in zip((*self.m, *self.v), state):
                    now.copy_(before)

    def step(self, x, y, lr, keep):
        torch = self.torch
        loss, hits = self.loss(torch.from_numpy(x), torch.from_numpy(y), self.m)
        g = torch.autograd.grad(loss, self.m)
        with torch.no_grad():  # as tensors: a number that changes would be compiled anew
            self.update(self.m, self.v, g, *(torch.tensor(each) if self.compiles else each for each in (lr, keep)))
        return loss.item(), hits.item()

    def hits(self, x, y):
        with self.torch.no_grad():
            out = self.logits(self.torch.from_numpy(x), self.m)
        return int((out.argmax(1).numpy() == y).sum())

    def counts(self):
        return [int((m.detach().abs() > tau).sum()) for m, tau in zip(self.m, self.tau)]


class Jax(Other):
    """JAX on the CPU: one jitted function a step, its state given away to it."""

    def prepare(self):
        import jax
        import jax.numpy as jnp

        frozen, tau, floor, mu = [jnp.asarray(w) for w in self.frozen], self.tau, self.floor, self.recipe.momentum
        self.m = [jnp.asarray(m) for m in self.scores]
        self.v = [jnp.zeros_like(m) for m in self.m]

        def logits(m, x):
            x = x.astype(jnp.float32)
            x = (x - x.mean(1, keepdims=True)) / jnp.maximum(x.std(1, keepdims=True), floor)
            for i, (w, s, t) in enumerate(zip(frozen, m, tau)):
                mask = (s > t).astype(s.dtype) - (s < -t).astype(s.dtype)
                x = (jax.nn.elu(x) if i else x) @ (w * (mask + (s - jax.lax.stop_gradient(s))))
            return x

        def loss(m, x, y):
            out = logits(m, x)
            chosen = jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], axis=1)
            return -chosen.mean(), (out.argmax(1) == y).sum()

        def step(m, v, x, y, lr, keep):
            (value, hits), g = jax.value_and_grad(loss, has_aux=True)(m, x, y)
            v = [mu * u - lr * d for u, d in zip(v, g)]
            return [keep * p + mu * u - lr * d for p, u, d in zip(m, v, g)], v, value, hits

        self.jitted, self.logits = jax.jit(step, donate_argnums=(0, 1)), jax.jit(logits)
        for n in sorted(self.sizes(), reverse=True):
            state = [each.copy() for each in self.m], [each.copy() for each in self.v]
            jax.block_until_ready(self.jitted(*state, self.images[:n], np.zeros(n, np.int32), np.float32(0),
                                              np.float32(1)))
        jax.block_until_ready(self.logits(self.m, self.test_images[:1000]))

    def step(self, x, y, lr, keep):
        rates = np.float32(lr), np.float32(keep)
        self.m, self.v, loss, hits = self.jitted(self.m, self.v, x, y.astype(np.int32), *rates)
        return float(loss), int(hits)

    def hits(self, x, y):
        return int((np.asarray(self.logits(self.m, x)).argmax(1) == y).sum())

    def counts(self):
        return [int(np.count_nonzero(np.abs(np.asarray(m)) > tau)) for m, tau in zip(self.m, self.tau)]


def made(name, recipe, dataset, seed):
    """A side at its start; ImportError, or whatever a compiler says, where it cannot be had."""
    if name in ("shrink", "whole"):
        return Ours(recipe, dataset, seed, name == "shrink")
    if importlib.util.find_spec("jax" if name == "jax" else "torch") is None:
        raise ImportError(f"{'JAX' if name == 'jax' else 'PyTorch'} is not installed")
    return Jax(recipe, dataset, seed) if name == "jax" else Torch(recipe, dataset, seed, compiles=name == "compile")


def race(names, recipe, dataset, seed):
    """One run of each side, in turns: by name, seconds an epoch, accuracy, weights left, seconds of compiling."""
    sides, rows = {}, {}
    for name in names:
        try:
            sides[name] = made(name, recipe, dataset, seed)
        except Exception as error:
            print(f"{SIDES[name]}: left out ({type(error).__name__}: {str(error).splitlines()[0]:.100})", flush=True)
            continue
        rows[name] = {"seconds": []}
    for epoch in range(recipe.epochs):
        order = list(sides)
        for name in order[epoch % len(order):] + order[:epoch % len(order)]:  # nobody always comes after the same
            start = time.perf_counter()
            sides[name].epoch()
            rows[name]["seconds"].append(time.perf_counter() - start)
    for name, side in sides.items():
        rows[name] |= {"accuracy": side.accuracy, "left": side.left, "compile_s": side.compiled}
        rows[name] |= {"units": side.units} if hasattr(side, "units") else {}
    return rows


def pinned(threads):
    """This process, and with it every side, on so many cores: JAX has no other way to be told. Where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(threads)


def table(rounds):
    """A row per side: a whole run's seconds (the median of the rounds), ours to it, the first and last tenth of it."""
    rows = [("side", "run, s", "ours / it", "first tenth, s", "last tenth, s", "compiling, s", "accuracy", "left")]
    for name in rounds[0]:
        runs = [each[name] for each in rounds if name in each]
        tenth = max(1, len(runs[0]["seconds"]) // 10)
        ratios = [sum(each["shrink"]["seconds"]) / sum(each[name]["seconds"]) for each in rounds if "shrink" in each]
        middle = statistics.median
        rows.append((SIDES[name], f"{middle(sum(run['seconds']) for run in runs):.1f}",
                     f"{middle(ratios):.2f}" if ratios else "",
                     f"{middle(sum(run['seconds'][:tenth]) for run in runs):.2f}",
                     f"{middle(sum(run['seconds'][-tenth:]) for run in runs):.2f}",
                     f"{middle(run['compile_s'] for run in runs):.1f}",
                     f"{middle(run['accuracy'] for run in runs):.2%}", f"{middle(run['left'] for run in runs):.2%}"))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", default=",".join(SIDES), help=f"of {', '.join(SIDES)} (default: all)")
    parser.add_argument("--short", type=float, default=1.0, metavar="K", help="a K-th of the epochs (default: 1)")
    parser.add_argument("--epochs", type=int, metavar="N", help="the first N epochs only, to see whether all runs")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side, seeds 0, 1, ... (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="cores that all sides share (default: 2)")
    parser.add_argument("--json", metavar="FILE", help="write a record there")
    options = parser.parse_args()
    names = options.sides.split(",")
    if unknown := set(names) - set(SIDES):
        parser.error(f"unknown sides {sorted(unknown)}; there are {', '.join(SIDES)}")
    dataset, recipe = mnist_or_drawn(), shortened(recipes.find("fcn"), options.short)
    recipe = replace(recipe, epochs=min(recipe.epochs, options.epochs or recipe.epochs))
    pinned(options.threads)
    with blas_threads(options.threads) as threads:
        print(f"{dataset.name}, {recipe.epochs} epochs, lr {recipe.lr:g} and wd {recipe.wd:g} fall to 0.9 in "
              f"{recipe.schedule_settings['epochs']:g} epochs, {threads} threads", flush=True)
        rounds = [race(names, recipe, dataset, seed) for seed in range(options.rounds)]
        rows = table(rounds)
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            print(row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:])), sep="  ")
        if "shrink" in rounds[0]:
            print(f"units alive at the end: {', '.join(map(str, rounds[0]['shrink']['units']))}")
        record = {"threads": threads, "dataset": dataset.name, "recipe": recipe.as_dict(), "short": options.short,
                  "environment": train.environment(), "images": checkpoint.fingerprint(dataset)[:16], "rounds": rounds,
                  "versions": {name: importlib.metadata.version(name) for name in ("torch", "jax")
                               if importlib.util.find_spec(name)}}
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
