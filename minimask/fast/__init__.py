"""The faster twins of ops, for NumPy and for CuPy: the same numbers up to rounding, in fewer passes and on two threads.

The reading path knows the table alone (``engine.FAST``), which is filled here, at import. A twin has the signature of
what it stands for: an op, by its name, or a function of another file, by file and name. tests/fast/test_twins.py walks
the table and holds each twin to its plain version. Inside ``minimask.plain()`` no twin runs; how memory and BLAS
threads are set for a whole run (memory.py, threads.py) is no twin.
"""

from collections.abc import Callable
from typing import Any

from ..engine import FAST
from . import conv, cupy, grouped, ops

NUMPY: dict[str, Callable[..., Any]] = {
    "multiply": ops.multiply, "elu": ops.elu, "take": ops.take, "matmul": ops.matmul,
    "keep_hide_invert": ops.keep_hide_invert, "keep_hide": ops.keep_hide, "keep_largest": ops.keep_largest,
    "conv2d": conv.conv2d, "max_pool2d": conv.max_pool2d, "batch_norm": ops.batch_norm, "resnet.moments": ops.moments,
    "optim.nesterov": ops.nesterov, "grouped_conv2d": grouped.grouped_conv2d}
CUPY: dict[str, Callable[..., Any]] = {
    "elu": cupy.elu, "keep_hide_invert": cupy.keep_hide_invert, "conv2d": cupy.conv2d, "max_pool2d": cupy.max_pool2d,
    "batch_norm": ops.batch_norm, "resnet.moments": ops.moments, "optim.nesterov": cupy.nesterov}

for library, twins in (("numpy", NUMPY), ("cupy", CUPY)):
    FAST |= {(library, name): twin for name, twin in twins.items()}
