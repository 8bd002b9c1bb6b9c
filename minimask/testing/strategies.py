"""Hypothesis strategies for shapes and arrays (extra ``test``): small, so that failures shrink to a few numbers.

Hypothesis draws shapes, layouts and seeds; the numbers come from the seed, so they are generic, not 0 and 1.
"""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LAYOUTS = ("contiguous", "transposed", "strided", "read-only", "broadcast")


def shapes(min_rank: int = 0, max_rank: int = 3, max_side: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes with axes of 1 to max_side; () is the 0-d one."""
    return hnp.array_shapes(min_dims=min_rank, max_dims=max_rank, min_side=1, max_side=max_side)


def broadcastable(count: int = 2, max_rank: int = 3) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """`count` shapes that broadcast together, with missing axes and axes of 1."""
    return hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=max_rank, min_side=1, max_side=4
                                             ).map(lambda drawn: drawn.input_shapes)


@st.composite
def arrays(draw: Any, shape: tuple[int, ...], domain: str = "real", which: int = 0) -> np.ndarray:
    """A float64 array of `shape`.

    Args:
        domain: 'real' (normal), 'positive' (0.2 and more), or 'distinct': no two entries equal or within 0.01, none
            at a multiple of 0.1, and none equal between arrays of different `which` (0, 1, 2): off kinks and ties.
        which: the array's number among the inputs of one call.

    The memory layout is drawn too: see LAYOUTS. A broadcast layout repeats its entries along the first axis, which
    'distinct' does without.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layout = draw(st.sampled_from(LAYOUTS if domain != "distinct" else LAYOUTS[:4]))
    size = int(np.prod(shape))
    if domain == "distinct":
        values = 0.1 * (rng.permutation(size) - size // 2) + 0.03 * (which + 1)
    else:
        values = rng.standard_normal(size)
        values = 0.2 + np.abs(values) if domain == "positive" else values
    return arrange(values.reshape(shape), layout)


def whole(shape: Any, step: float = 1.0, largest: int = 9, dtype: str = "float64") -> st.SearchStrategy[np.ndarray]:
    """Arrays of multiples of `step`, a power of two, up to `largest` of them: sums and products come out exact, values
    meet thresholds and each other, and a failure shrinks to numbers that can be followed by hand.

    Args:
        shape: a tuple, or a strategy for one.
    """
    return hnp.arrays(dtype, shape, elements=st.integers(-largest, largest).map(lambda i: i * step), fill=st.nothing())


def arrange(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values in another memory layout ('broadcast' repeats the first entry of axis 0)."""
    if layout == "transposed" and array.ndim:
        return np.ascontiguousarray(array.T).T
    if layout == "strided" and array.ndim:
        spread = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        spread[..., ::2] = array
        return spread[..., ::2]
    if layout == "broadcast" and array.ndim:
        return np.broadcast_to(array[:1], array.shape)
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


def axes(rank: int) -> st.SearchStrategy[Any]:
    """An `axis` argument of a reduction over `rank` axes: None, an integer (negative too), or a tuple of them."""
    if rank == 0:
        return st.sampled_from([None, ()])
    one = st.integers(-rank, rank - 1)
    several = st.lists(st.integers(0, rank - 1), unique=True, max_size=rank).map(tuple)
    return st.none() | one | several


@st.composite
def indices(draw: Any, shape: tuple[int, ...]) -> Any:
    """A basic index into `shape`: integers, slices with steps from 1 up, None and '...', often fewer than axes."""
    index: list[Any] = []
    for n in shape[:draw(st.integers(0, len(shape)))]:
        start, stop = sorted((draw(st.integers(0, n)), draw(st.integers(0, n))))
        step = draw(st.integers(1, 2))
        index.append(draw(st.sampled_from([draw(st.integers(-n, n - 1)), slice(start, stop, step), slice(None)])))
        if draw(st.booleans()) and None not in index:
            index.append(None)
    if draw(st.booleans()):
        index.append(...)
    return tuple(index)
