"""Where a training step's time goes: layer by layer beside PyTorch eager, and op by op inside our own step.

    python benchmarks/ops.py                     # conv2
    python benchmarks/ops.py --net resnet20      # another of the nets of benchmarks/steps.py
    python benchmarks/ops.py --json FILE         # and writes a record
    python benchmarks/ops.py --net fcn --threads 1

First table: every layer alone, on random images of the shape that it meets at batch 128, forward and backward (the
first layer without the gradient of its images), alternating with PyTorch, of whose two layouts the better one counts.
Second table: a whole step of ours with a clock around every op and every pullback; what is in neither row is the
engine itself. Needs the extra `oracle`.
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from contextlib import contextmanager, nullcontext
from unittest import mock

import numpy as np
from steps import BATCH, NETS, OurSide, gemm_gflops, layer_flop, sample

from minimask import Tensor, engine, ops, train
from minimask.fast.memory import kept_memory
from minimask.fast.threads import blas_threads


def timed_layer(layer, x, g):
    """A call that takes the layer forward and backward and returns the seconds of each."""
    def call():
        begin = time.perf_counter()
        y = layer(x, training=True)
        middle = time.perf_counter()
        y.backward(g)
        end = time.perf_counter()
        x.grad = None
        for _, inside in layer.walk():
            for parameter in inside.own_parameters().values():
                parameter.grad = None
        return middle - begin, end - middle
    return call


def timed_torch(layer, x, g, leaves):
    """The same for a layer of TorchSide."""
    def call():
        begin = time.perf_counter()
        y = layer(x)
        middle = time.perf_counter()
        y.backward(g)
        end = time.perf_counter()
        for leaf in (x, *leaves):
            leaf.grad = None
        return middle - begin, end - middle
    return call


def measure_layers(name, rounds):
    """One row per layer that computes something."""
    import torch
    from torch_side import TorchSide

    ours, rng = OurSide(name), np.random.default_rng(0)
    sides = [TorchSide(ours.net, ours.recipe, channels_last) for channels_last in (False, True)]
    rows, shape = [], ours.net.input_shape
    for i, (key, layer) in enumerate(ours.net.layers.items()):
        after = layer.output_shape(shape)
        x = rng.standard_normal((BATCH, *shape)).astype(np.float32)
        g = rng.standard_normal((BATCH, *after)).astype(np.float32)
        wanted = i > 0 or not layer.own_parameters()  # the first layer's images need no gradient
        calls = [timed_layer(layer, Tensor(x, requires_grad=wanted), g)]
        for side in sides:
            there = side.images(x) if len(shape) == 3 else torch.tensor(x)
            back = side.images(g) if len(after) == 3 else torch.tensor(g)
            calls.append(timed_torch(side.layers[i], there.requires_grad_(wanted), back, side.trained))
        seconds = [[], [], []]
        for _ in range(rounds + 1):
            for call, column, setting in zip(calls, seconds, (kept_memory, nullcontext, nullcontext)):
                with setting():
                    call()
                    column.append(call())
        (forward, backward), *others = ([statistics.median(part) for part in zip(*column[1:])] for column in seconds)
        best = min(others, key=sum)
        rows.append({"layer": key, "kind": repr(layer), "forward_ms": 1e3 * forward, "backward_ms": 1e3 * backward,
                     "torch_forward_ms": 1e3 * best[0], "torch_backward_ms": 1e3 * best[1],
                     "ratio": (forward + backward) / sum(best),
                     "gflop": sum(2 * BATCH * weights * times for weights, times in layer_flop(layer, shape)) / 1e9})
        shape = after
    return rows


@contextmanager
def clocks():
    """Inside, every op call and pullback is timed: op name -> [calls, forward seconds, backward seconds]."""
    spent = defaultdict(lambda: [0, 0.0, 0.0])

    def timed(name, call):
        def inner(*args, **settings):
            begin = time.perf_counter()
            result = call(*args, **settings)
            spent[name][0] += 1
            spent[name][1] += time.perf_counter() - begin
            return result
        return inner

    pull = engine._pull

    def timed_pull(node, g):
        name, begin = node.name, time.perf_counter()
        result = pull(node, g)
        spent[name][2] += time.perf_counter() - begin
        return result

    with mock.patch.object(engine, "_pull", timed_pull), mock.patch.dict(engine.OPS):
        from minimask import conv
        patches = []
        for name, call in list(engine.OPS.items()):
            engine.OPS[name] = timed(name, call)
            home = conv if hasattr(conv, name) else ops
            patches.append(mock.patch.object(home, name, engine.OPS[name]))
        for patch in patches:
            patch.start()
        try:
            yield spent
        finally:
            for patch in patches:
                patch.stop()


def measure_ops(name, rounds):
    """One row per op of a whole step, and the update; seconds of the step."""
    ours, (batch,) = OurSide(name), sample(name, 1)
    ours.step(*batch)
    steps, columns = [], defaultdict(list)
    for _ in range(rounds):
        with clocks() as spent:
            begin = time.perf_counter()
            loss = ops.cross_entropy(ours.net(batch[0], training=True), batch[1])
            ours.optimizer.zero_grad()
            loss.backward()
            middle = time.perf_counter()
            ours.optimizer.step()
            end = time.perf_counter()
        steps.append(end - begin)
        spent["SGDW"] = [1, end - middle, 0.0]
        for key, row in spent.items():
            columns[key].append(row)
    rows = [{"op": key, "calls": column[0][0], "forward_ms": 1e3 * statistics.median(row[1] for row in column),
             "backward_ms": 1e3 * statistics.median(row[2] for row in column)} for key, column in columns.items()]
    return sorted(rows, key=lambda row: -row["forward_ms"] - row["backward_ms"]), 1e3 * statistics.median(steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="conv2", choices=NETS)
    parser.add_argument("--json", metavar="FILE", help="write a record there")
    parser.add_argument("--threads", type=int, help="threads of both sides (default: all cores)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default: 7)")
    options = parser.parse_args()
    import torch

    threads = options.threads or os.cpu_count()
    with blas_threads(threads) as in_force:
        torch.set_num_threads(threads)
        peak = gemm_gflops()
        print(f"{options.net}, {in_force} threads, GEMM peak {peak:.0f} GFLOP/s, PyTorch {torch.__version__} eager, "
              f"batch {BATCH}, float32\n")
        print(f"{'layer alone, ms':52}{'forward':>9}{'backward':>10}{'PyTorch':>9}{'backward':>10}{'ratio':>7}")
        layers = measure_layers(options.net, options.rounds)
        for row in layers:
            print(f"{row['layer'] + '  ' + row['kind']:52.50}{row['forward_ms']:9.2f}{row['backward_ms']:10.2f}"
                  f"{row['torch_forward_ms']:9.2f}{row['torch_backward_ms']:10.2f}{row['ratio']:7.2f}")
        with kept_memory():
            inside, step = measure_ops(options.net, options.rounds)
        print(f"\n{f'op in our step of {step:.1f} ms':52}{'calls':>9}{'forward':>10}{'backward':>9}{'share':>10}")
        for row in inside:
            both = row["forward_ms"] + row["backward_ms"]
            print(f"{row['op']:52}{row['calls']:9}{row['forward_ms']:10.2f}{row['backward_ms']:9.2f}"
                  f"{both / step:10.1%}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"net": options.net, "threads": in_force, "gemm_gflops": peak, "torch": torch.__version__,
                       "environment": train.environment(), "layers": layers, "step_ms": step, "ops": inside},
                      file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
