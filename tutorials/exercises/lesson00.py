"""Lesson 00, exercises: the mask, what is left of a net, and how small it is.

Replace each ``raise NotImplementedError`` by your own code. ``pytest exercises/test_lesson00.py -k task1`` marks task 1.
"""

import numpy as np


def signed_mask(m: np.ndarray, tau: float) -> np.ndarray:
    r"""Task 1. The signed supermask of the scores `m`, any shape -> same shape and dtype.

    s = +1 where m > tau (keep), -1 where m < -tau (invert), 0 elsewhere (hide). Both comparisons are strict: a score of
    exactly tau or -tau is hidden. `m` itself must not change.
    """
    raise NotImplementedError("Lesson 0, task 1: turn scores into a signed mask")


def weights_left(masks: dict[str, np.ndarray]) -> float:
    """Task 2. The share of a net's weights that is in use, between 0 and 1.

    Args:
        masks: layer name -> signed mask of that layer (entries -1, 0, +1), of any shape; at least one entry in all. It
            is what ``net.masks()`` returns.

    Every weight counts the same, whichever layer it is in: a layer of 30,000 weights counts 30 times as much as one of
    1,000.
    """
    raise NotImplementedError("Lesson 0, task 2: compute the share of the weights that is in use")


def entropy_bytes(counts: list[tuple[int, int, int]]) -> float:
    r"""Task 3. How many bytes the masks of a net need at least, if each entry is coded by itself.

    Args:
        counts: one (kept, hidden, inverted) per layer, as ``net.counts()`` returns it; no layer is empty.

    A layer of n entries, of which n_k have value k, needs n * sum over k of -p_k log2(p_k) bits, p_k = n_k / n. A value
    that never occurs costs nothing. Add up the layers; 8 bits are a byte.
    """
    raise NotImplementedError("Lesson 0, task 3: compute the entropy of the masks in bytes")
