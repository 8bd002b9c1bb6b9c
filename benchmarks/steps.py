"""Training steps and a whole epoch, side by side with PyTorch (and JAX) in one process, alternating.

    python benchmarks/steps.py                  # the FCN: a table
    python benchmarks/steps.py --nets all       # and conv2, conv4, conv6, conv8, resnet20 (some minutes)
    python benchmarks/steps.py --json FILE      # and writes a record
    python benchmarks/steps.py --threads 1      # both sides limited to one thread
    python benchmarks/steps.py --backend cupy   # both sides on a GPU
    python benchmarks/steps.py --sides eager,compile,jax   # and torch.compile and JAX (pip install jax)

A step is forward, backward and SGDW of a signed supermask at batch 128 in float32. Both sides do the same: the same
masks, no biases, the same update, PyTorch's with in-place operations. For nets with convolutions PyTorch runs in both
its layouts, NCHW and channels_last, and the better one counts. Machines are noisy: read the ratio, not the
milliseconds. "GEMM share" is the time the step's products would take at the machine's peak, measured in the same run
with a large product, over our time. MNIST is used where MINIMASK_DATA has it, random images of its size elsewhere.
Needs the extra `oracle`. torch.compile takes the layout that was better in eager mode, JAX images as ours does; both
compile once, before the first round. A side that cannot be had is left out and says why.

On a GPU the clock stops when the device is done, peak memory is what each side's memory pool has taken from the device,
and both sides compute in float32 proper: PyTorch's TF32 is off, as it is in CuPy.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from minimask import backend, data, models, nn, ops, optim, recipes, train
from minimask.fast.memory import kept_memory
from minimask.fast.threads import blas_threads

if importlib.util.find_spec("torch") is None:
    raise SystemExit("this benchmark compares with PyTorch, which is not installed: pip install '.[oracle]'")

BATCH = 128
NETS = ("fcn", "conv2", "conv4", "conv6", "conv8", "resnet20")


def recipe_of(name):
    """A net's published recipe, the convolutional ones at a tenth of its learning rate.

    They see noise here, on which the recipe's own rate makes losses of ten and more. Of Conv6 with fcn's recipe, which
    all nets had here before, the loss was 284 in the fifth step, and PyTorch's backward took 5.9 s in place of 0.45.
    """
    if name == "fcn":
        return recipes.find(name)
    recipe = recipes.find(name if name.startswith("resnet") else f"{name}-published-config")
    return replace(recipe, lr=recipe.lr / 10)


class OurSide:
    """A net with signed supermasks in minimask, trained as `minimask train` does it."""

    def __init__(self, name, images=50_000, library="numpy"):
        self.recipe = recipe = recipe_of(name)
        options = {"norm": "stem"} if name.startswith("resnet") else {}
        self.net = models.MODELS[name](weights=recipe.weights(), rng=np.random.default_rng(0), backend=library,
                                       **options)
        schedule = recipe.schedule_of(math.ceil(images / BATCH))
        self.optimizer = optim.SGDW(self.net.parameters(), recipe.lr, recipe.wd, recipe.momentum, schedule)

    def step(self, x, labels):
        loss = ops.cross_entropy(self.net(x, training=True), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def mnist_or_noise():
    """MNIST, or random images of its size: the time is the same."""
    try:
        return data.load("mnist")
    except backend.MinimaskError:
        rng = np.random.default_rng(0)
        parts = [rng.integers(0, high, shape).astype(np.uint8) for n in (60_000, 10_000)
                 for high, shape in ((256, (n, 28, 28, 1)), (10, (n,)))]
        return data.Dataset("noise of MNIST's size", *parts, tuple("0123456789"))


def gemm_gflops(library="numpy", repeats=9):
    """The machine's float32 peak in the library's products: the best of several large ones."""
    size = 2048 if library == "numpy" else 8192
    a = move(np.random.default_rng(0).standard_normal((size, size), np.float32), library)
    seconds = min(timed(lambda: a @ a) for _ in range(repeats))
    return 2 * size**3 / seconds / 1e9


def move(array, library):
    """A host array as one of the library."""
    return backend.load(library).asarray(array)


def wait():
    """Until the GPU has done what either side asked of it; on the CPU everything is done when a call returns."""
    if "cupy" in sys.modules:
        sys.modules["cupy"].cuda.runtime.deviceSynchronize()


def timed(call):
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def alternate(calls, rounds, repeats):
    """Rounds of `repeats` calls of each side in turn: (median seconds of each, median ratios of ours to each).

    Ratios are taken within a round, seconds apart, so that a machine that slows down for a while slows all.
    The first call of each turn warms the caches and is not counted; nor is the first round.
    """
    seconds = []
    for _ in range(rounds + 1):
        turns = []
        for call, setting in zip(calls, [kept_memory] + [nullcontext] * (len(calls) - 1)):  # ours as in train.fit
            with setting():
                turns.append([timed(call) for _ in range(repeats)])
        seconds.append([statistics.median(turn[1:] or turn) for turn in turns])
    medians = [statistics.median(column) for column in zip(*seconds[1:])]
    return medians, [statistics.median(row[0] / row[i] for row in seconds[1:]) for i in range(len(calls))]


def turns(step, batches):
    """A call without arguments that takes the next batch each time."""
    endless = itertools.cycle(batches)
    return lambda: step(*next(endless))


def gemm_flop(net):
    """Multiplications and additions in the products of a step: forward, dW, and dx but for the first layer."""
    places = []  # (weights, how often each is used per image)
    shape = net.input_shape
    for layer in net.layers.values():
        places += layer_flop(layer, shape)
        shape = layer.output_shape(shape)
    used = [weights * times for weights, times in places]
    return 2 * BATCH * (3 * sum(used) - used[0])


def layer_flop(layer, shape):
    if isinstance(layer, nn.Residual):
        found = []
        for way in (layer.main, layer.shortcut):
            inside = shape
            for each in way.values():
                found += layer_flop(each, inside)
                inside = each.output_shape(inside)
        return found
    if layer.weight is None:
        return []
    return [(int(np.prod(layer.shape)), int(np.prod(layer.output_shape(shape)[:-1])))]


def sample(name, count):
    """Batches on the host of random images of the net's input shape, with labels."""
    rng = np.random.default_rng(0)
    shape = OurSide(name).net.input_shape if count else ()
    return [(rng.standard_normal((BATCH, *shape)).astype(np.float32), rng.integers(0, 10, BATCH)) for _ in range(count)]


def peak_mb(name, side, library):
    """Peak memory of one side alone, in a process of its own, 3 steps: imports included, or on a GPU its pool alone."""
    out = subprocess.run([sys.executable, __file__, "--peak", side, "--nets", name, "--backend", library],
                         capture_output=True, text=True, check=True)
    return float(out.stdout)


def print_peak(name, side, library):
    """What `--peak` prints; the side that is not asked for is not imported."""
    (x, y), = sample(name, 1)
    if side == "torch":
        import torch
        from torch_side import TorchSide

        host = OurSide(name)
        ours = TorchSide(host.net, host.recipe)
        x, y = ours.images(x), torch.tensor(y)
    else:
        ours, x, y = OurSide(name, library=library), move(x, library), move(y, library)
    with kept_memory() if side == "ours" else nullcontext():  # as in train.fit
        for _ in range(3):
            ours.step(x, y)
    if library == "cupy":
        print((torch.cuda.max_memory_reserved() if side == "torch"
               else backend.load("cupy").get_default_memory_pool().total_bytes()) / 2**20)
        return
    with open("/proc/self/status", encoding="utf-8") as file:  # ru_maxrss would hold the parent's peak
        print(next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM")))


def torch_on(library):
    """PyTorch, with what it makes from here on in the place that our side computes in."""
    import torch

    if library == "cupy":
        if not torch.cuda.is_available():
            raise SystemExit("steps.py: PyTorch finds no GPU; install its build for the CUDA version of the driver")
        torch.set_default_device("cuda")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch


def device_name(library):
    """What computes, in words; empty for the CPU, which the record's environment names."""
    if library == "numpy":
        return ""
    return backend.load(library).cuda.runtime.getDeviceProperties(0)["name"].decode()


def others(name, host, names, batches):
    """(side, call) of the others, by name: eager in each layout, torch.compile in both, JAX; of `names` only."""
    import torch
    from torch_side import TorchSide

    if "compile" in names:
        torch._dynamo.reset()  # or the nets before this one count towards its limit of recompilations
    calls = []
    for compiled, side in ((False, "eager"), (True, "compile")):
        for last in (False,) if name == "fcn" else (False, True):
            def made(last=last, compiled=compiled):
                other = TorchSide(host.net, host.recipe, last, compiled)
                return turns(other.step, [(other.images(x), torch.tensor(y)) for x, y in batches])
            calls += had(side, made) if side in names else []

    def jax():
        from jax_side import JaxSide

        other = JaxSide(host.net, host.recipe)
        return turns(other.step, [(other.images(x), y.astype(np.int32)) for x, y in batches])

    return calls + (had("jax", jax) if "jax" in names else [])


def had(side, made):
    """A side's call, which has compiled; nothing where it cannot be had, which is said."""
    try:
        call = made()
        call()
    except Exception as error:
        print(f"{side}: left out ({type(error).__name__}: {str(error).splitlines()[0]:.100})", flush=True)
        return []
    return [(side, call)]


def measure_step(name, rounds, peak, library, peaks=True, sides=("eager",)):
    """One row of "steps"; `peaks`: memory too, for which each side runs once more in a process of its own."""
    ours, host = OurSide(name, library=library), OurSide(name)  # the others are made from the one on the host
    batches = sample(name, 20 if name == "fcn" else 2)
    mine = turns(ours.step, [(move(x, library), move(y, library)) for x, y in batches])
    their = others(name, host, sides, batches)
    medians, ratios = alternate([mine, *(call for _, call in their)], rounds, 20 if name == "fcn" else 2)
    row = {"net": name, "ours_ms": 1e3 * medians[0]}
    for side, key in (("eager", "torch"), ("compile", "compile"), ("jax", "jax")):
        found = [i for i, (each, _) in enumerate(their, 1) if each == side]
        best = min(found, key=lambda i: medians[i], default=0)
        if found:
            row |= {f"{key}_ms": 1e3 * medians[best], "ratio" if side == "eager" else f"{key}_ratio": ratios[best]}
            row |= {f"{key}_layout": ("NCHW", "channels_last")[found.index(best)]} if side != "jax" else {}
    return row | {
        **({f"{side}_peak_mb": peak_mb(name, side, library) for side in ("ours", "torch")} if peaks else
           {"ours_peak_mb": None, "torch_peak_mb": None}),
        "gemm_share": gemm_flop(ours.net) / (peak * 1e9) / medians[0]}


def measure_epoch(turns_each):
    """The row of "epochs": MNIST, whole, with standardisation and accuracy."""
    import torch
    from torch_side import TorchSide

    dataset = mnist_or_noise()
    ours = OurSide("fcn", len(dataset.train_images))
    theirs = TorchSide(ours.net, ours.recipe)
    images = torch.tensor(dataset.train_images).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(dataset.train_labels.astype(np.int64))
    rng = np.random.default_rng(0)

    def epoch():
        train.Training(ours.net, dataset, ours.optimizer, rng, BATCH, train.new_record()).train_epoch()

    (mine, other), (_, ratio) = alternate(
        [epoch,
         lambda: theirs.epoch(images, labels, torch.tensor(rng.permutation(len(images))))], turns_each, 1)
    return {"net": "fcn", "data": dataset.name, "ours_s": mine, "torch_s": other, "ratio": ratio}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="fcn", help=f"comma-separated, of {', '.join(NETS)}, or all (default: fcn)")
    parser.add_argument("--json", metavar="FILE", help="write a record there")
    parser.add_argument("--threads", type=int, help="threads of both sides (default: all cores)")
    parser.add_argument("--rounds", type=int, default=20,
                        help="turns of each side (default: 20; a third of it for nets with convolutions)")
    parser.add_argument("--epochs", type=int, default=5,
                        help="turns of a whole epoch each, on the CPU (default: 5; 0 for none)")
    parser.add_argument("--backend", default="numpy", choices=("numpy", "cupy"),
                        help="our array library; with cupy both sides compute on the GPU (default: numpy)")
    parser.add_argument("--sides", default="eager", help="comma-separated, of eager (always there), compile, jax")
    parser.add_argument("--peaks", action=argparse.BooleanOptionalAction, default=True,
                        help="measure peak memory, each side in a process of its own (default: yes)")
    parser.add_argument("--peak", choices=("ours", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    nets = NETS if options.nets == "all" else options.nets.split(",")
    if unknown := set(nets) - set(NETS):
        parser.error(f"unknown nets {sorted(unknown)}; there are {', '.join(NETS)}")
    library = options.backend
    try:
        backend.load(library)
    except backend.MinimaskError as error:
        raise SystemExit(f"steps.py: {error}") from None
    sides = {"eager", *options.sides.split(",")}
    if unknown := sides - {"eager", "compile", "jax"}:
        parser.error(f"unknown sides {sorted(unknown)}; there are eager, compile, jax")
    if options.peak:
        if options.peak == "torch":
            torch_on(library)
        return print_peak(nets[0], options.peak, library)
    torch, device = torch_on(library), device_name(library)
    threads = options.threads or os.cpu_count()
    with blas_threads(threads) as in_force:
        torch.set_num_threads(threads)
        peak = gemm_gflops(library)
        print(f"{device or f'{in_force} threads'}, GEMM peak {peak:.0f} GFLOP/s, PyTorch {torch.__version__} eager, "
              f"batch {BATCH}, float32")
        print(f"{'':16}{'ours':>11}{'PyTorch':>11}{'ratio':>8}{'GEMM share':>12}{'peak MB ours':>14}{'PyTorch':>9}")
        record = {"threads": in_force, "backend": library, "device": device, "gemm_gflops": peak,
                  "torch": torch.__version__, "jax": importlib.metadata.version("jax") if "jax" in sides else None,
                  "environment": train.environment(), "steps": [], "epochs": []}
        for name in nets:
            row = measure_step(name, options.rounds if name == "fcn" else max(1, options.rounds // 3), peak,
                               library, options.peaks, sides)
            record["steps"].append(row)
            print(f"{name + ' step':16}{row['ours_ms']:>8.2f} ms{row['torch_ms']:>8.2f} ms{row['ratio']:>8.2f}"
                  f"{row['gemm_share']:>12.0%}{row['ours_peak_mb'] or 0:>14.0f}{row['torch_peak_mb'] or 0:>9.0f}"
                  f"  {row['torch_layout'] if name != 'fcn' else ''}"
                  + "".join(f"  {key} {row[f'{key}_ms']:.2f} ms {row[f'{key}_ratio']:.2f}"
                            for key in ("compile", "jax") if f"{key}_ms" in row), flush=True)
        if options.epochs and "fcn" in nets and library == "numpy":
            row = measure_epoch(options.epochs)
            record["epochs"].append(row)
            print(f"{'fcn epoch':16}{row['ours_s']:>9.2f} s{row['torch_s']:>9.2f} s{row['ratio']:>8.2f}"
                  f"   ({row['data']})")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
