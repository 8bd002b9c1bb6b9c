"""Exercises of lesson 11, two array libraries. ``pytest -m lesson11`` marks them, ``pytest -m lesson11 -k task1`` one.

The tests give arrays of NumPy, of array-api-strict, and of array-api-strict on its device1, which NumPy cannot read.
Use functions of the standard only, from the array's own library.
"""


def standardise(x):
    """Task 1. Every row by itself: (x - mean) / max(std, 1/sqrt(n)), n the length of a row.

    Mean and standard deviation (of the population: divide by n) over the row. A constant row becomes zeros.

    Args:
        x: (rows, n), floating, of any array library.

    Returns:
        the same shape, dtype, library and device.
    """
    raise NotImplementedError("Lesson 11, task 1: standardise the rows with functions of x's own library")


def one_hot(labels, classes, like):
    """Task 2. A row for each label, with 1 in the label's column and 0 elsewhere.

    Args:
        labels: (n,) integers 0..classes-1, of any array library. classes: a Python integer.
        like: a floating array of the same library and on the same device, of any shape.

    Returns:
        (n, classes), of like's dtype, library and device.
    """
    raise NotImplementedError("Lesson 11, task 2: compare labels[:, None] with the numbers of the columns")


def mask_counts(s):
    """Task 3. How many entries of a signed mask are kept, hidden and inverted.

    Args:
        s: any shape, floating, entries +1 (kept), 0 (hidden), -1 (inverted), of any array library.

    Returns:
        (kept, hidden, inverted), three Python integers.
    """
    raise NotImplementedError("Lesson 11, task 3: count what is above, at and below 0")
