"""Exercises of lesson 12, shipping. ``pytest -m lesson12`` marks them, ``pytest -m lesson12 -k task1`` one."""

import numpy as np


def entropy_bits(trits):
    """Task 1. How many bits a ternary array is worth: n H, with n entries and the shares of -1, 0 and +1 among them.

        H = sum over the values v that occur of p_v log2(1 / p_v)

    Args:
        trits: integer array of any shape, entries -1, 0, +1; at least one entry.

    Returns:
        float: n H, for all n entries together; 0.0 where only one value occurs.
    """
    raise NotImplementedError("Lesson 12, task 1: the number of entries times the entropy of their shares, in bits")


def unpack(code, size):
    """Task 2. The ternary numbers back from bytes, each of which holds five of them.

    A byte is d0 + 3 d1 + 9 d2 + 27 d3 + 81 d4; the first entry is d0, and the digit 2 stands for -1.

    Args:
        code: bytes, ceil(size / 5) of them, each below 243.
        size: how many entries there are; what is left of the last byte is filled up with zeros and does not count.

    Returns:
        integer array (size,), entries -1, 0, +1.
    """
    raise NotImplementedError("Lesson 12, task 2: the digits of every byte in base 3, the lowest first, 2 as -1")


def to_channels_first(weight, shape):
    """Task 3. A dense weight that follows Flatten, for a system whose images are (channel, row, column).

    Args:
        weight: (h * w * c, out): our Flatten puts an image in a row by row, column, channel.
        shape: (h, w, c), the shape of one image before Flatten.

    Returns:
        (out, c * h * w): the same weights for an image in a row by channel, row, column, out first, as PyTorch's
        Linear keeps them.
    """
    raise NotImplementedError("Lesson 12, task 3: reorder the rows from row, column, channel to channel, row, column")
