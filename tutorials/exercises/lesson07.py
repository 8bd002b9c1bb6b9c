"""Exercises of lesson 07, convolution. ``pytest -m lesson07`` marks them, ``pytest -m lesson07 -k task1`` one."""

import numpy as np


def windows(x, kh, kw, stride=1):
    """Task 1. Every window of a batch of images as a row.

    The window moves `stride` pixels at a time, down and to the right, and never leaves the image: there is no padding,
    and oh = (h - kh) // stride + 1, ow = (w - kw) // stride + 1.

    Args:
        x: (n, h, w, c), channels last. kh, kw: height and width of the window. stride: an integer from 1 up.

    Returns:
        (n*oh*ow, kh*kw*c). Rows go through the images, then through the places row by row. In a row the window's
        pixels follow each other row by row, each with its c channels, so that
        ``windows(x, kh, kw) @ w.reshape(kh*kw*c, outputs)`` is the convolution with a kernel w (kh, kw, c, outputs).
    """
    raise NotImplementedError("Lesson 7, task 1: every window of x as a row of kh*kw*c numbers")


def conv_pullback(x, w, g):
    """Task 2. The gradients of a convolution with stride 1 and without padding ('valid').

    Args:
        x: (n, h, w, c). w: kernel (kh, kw, c, outputs). g: dL/dy, (n, h - kh + 1, w - kw + 1, outputs).

    Returns:
        (dx, dw): dL/dx in x's shape and dL/dw in w's shape.
    """
    raise NotImplementedError("Lesson 7, task 2: dL/dx and dL/dw from g = dL/dy")


def in_blocks(convolve, x, images):
    """Task 3. convolve(x) of a large batch, by calls of `convolve` on at most `images` images at a time.

    Args:
        convolve: takes (k, h, w, c) for any k from 1 up, gives (k, oh, ow, outputs), each image by itself.
        x: (n, h, w, c), n from 1 up. images: an integer from 1 up; it need not divide n.

    Returns:
        (n, oh, ow, outputs), what convolve(x) would give.
    """
    raise NotImplementedError("Lesson 7, task 3: call convolve on `images` images at a time")
