"""Where windows lie on an image, and whether they fit: of convolutions and pools. Beside the path."""

from dataclasses import dataclass
from typing import Any

import numpy as np

INTEGERS = (int, np.integer)  # what counts as one; sizes are Python's from here on
Pair = int | tuple[int, int]
Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
FORMS = "'same', 'valid', an integer, (vertical, horizontal) or ((top, bottom), (left, right))"


@dataclass(frozen=True)
class Geometry:
    """Where windows lie on an image: kernel (kh, kw), strides (sh, sw), padding, and the size of the result."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
    output: tuple[int, int]  # (oh, ow)

    def slices(self) -> list[tuple[slice, slice]]:
        """For each place (i, j) in the window, row by row, which entries of the padded image meet it: (oh, ow) many."""
        (kh, kw), (sh, sw), (oh, ow) = self.kernel, self.stride, self.output
        return [(slice(i, i + sh * (oh - 1) + 1, sh), slice(j, j + sw * (ow - 1) + 1, sw))
                for i in range(kh) for j in range(kw)]


def geometry(name: str, image: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding) -> Geometry:
    """The Geometry of `kernel` on an `image` of shape (n, h, w, c); ValueError where it does not fit.

    'same' is TensorFlow's: ceil(size / stride) results, the padding as even as it can be, and the odd one after.
    """
    if len(image) != 4:
        raise ValueError(f"{name}: x has shape {image}; needed are four axes, (n, height, width, channels)")
    size, kernel, stride = image[1:3], _pair(name, "window", kernel), _pair(name, "stride", stride)
    sides = _sides(name, size, kernel, stride, padding)
    padded = tuple(n + before + after for n, (before, after) in zip(size, sides))
    output = tuple((n - k) // s + 1 for n, k, s in zip(padded, kernel, stride))
    if min(output) < 1:
        raise ValueError(f"{name}: a window of {kernel} does not fit into the padded image of {padded} "
                         f"(x {image}, padding {padding}); pad more or take a smaller window")
    return Geometry(kernel, stride, sides, (output[0], output[1]))


def of_convolution(name: str, x: tuple[int, ...], w: tuple[int, ...], stride: Pair, padding: Padding,
                   budget: int | None = None) -> Geometry:
    """The Geometry of a kernel of shape w on images of shape x; ValueError where they do not fit, or for a budget."""
    check_channels(name, x, w)
    at = geometry(name, x, (w[0], w[1]), stride, padding)
    if budget is not None and not (isinstance(budget, INTEGERS) and budget >= 1):
        raise ValueError(f"{name}: budget is {budget!r}; give a number of bytes, 1 or more, or None")
    return at


def of_grouped(name: str, x: tuple[int, ...], w: tuple[int, ...], groups: int, stride: Pair, padding: Padding,
               budget: int | None = None) -> Geometry:
    """The same for a kernel (kh, kw, c_in/groups, c_out) whose channels, in and out, fall into so many groups."""
    if not (isinstance(groups, INTEGERS) and groups >= 1):
        raise ValueError(f"{name}: groups is {groups!r}; give a whole number, 1 or more")
    if len(x) != 4 or len(w) != 4:
        check_channels(name, x, w)
    if x[3] % groups or w[3] % groups or x[3] != w[2] * groups:
        raise ValueError(f"{name}: {groups} groups do not divide the channels (x {x}, kernel {w}); needed are x with "
                         "groups times the kernel's channels, and as many outputs in every group")
    return of_convolution(name, (*x[:3], *w[2:3]), w, stride, padding, budget)


def check_channels(name: str, x: tuple[int, ...], w: tuple[int, ...]) -> None:
    """ValueError where kernel and image do not fit together; it tells an NCHW image or OIHW kernel apart."""
    axes = f"(x {x}, kernel {w}); axes are NHWC and HWIO"
    if len(x) != 4 or len(w) != 4:
        raise ValueError(f"{name}: both need four axes {axes}")
    if 0 in (x[3], *w[2:]):
        raise ValueError(f"{name}: both need a channel or more {axes}")
    if x[3] != w[2]:
        hint = ""
        if x[1] == w[2]:
            hint = "; x looks like NCHW: permute_dims(x, (0, 2, 3, 1))"
        elif x[3] == w[1] and w[2] == w[3] and w[0] != w[1]:
            hint = "; the kernel looks like OIHW: permute_dims(w, (2, 3, 1, 0))"
        raise ValueError(f"{name}: x has {x[3]} channels but the kernel expects {w[2]} {axes}{hint}")


def of_pool(name: str, x: tuple[int, ...], window: Pair, stride: Pair | None, padding: Padding) -> Geometry:
    """The Geometry of a pool on images of shape x, its stride the window's unless given.

    ValueError where it does not fit, or where a window could lie in the padding alone: its maximum and mean would mean
    nothing.
    """
    at = geometry(name, x, window, window if stride is None else stride, padding)
    if any(max(p) >= k for p, k in zip(at.padding, at.kernel)):
        raise ValueError(f"{name}: padding {at.padding} is as wide as the window {at.kernel}; pad less than a window")
    return at


def _sides(name: str, size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int],
           padding: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of a padding in any of its forms."""
    if padding == "same":
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, stride)]
        padding = tuple((total // 2, total - total // 2) for total in totals)
    elif padding == "valid":
        padding = ((0, 0), (0, 0))
    elif isinstance(padding, INTEGERS):
        padding = ((padding, padding), (padding, padding))
    elif isinstance(padding, tuple) and len(padding) == 2 and all(isinstance(p, INTEGERS) for p in padding):
        padding = ((padding[0], padding[0]), (padding[1], padding[1]))
    if not (isinstance(padding, tuple) and len(padding) == 2
            and all(isinstance(p, tuple) and len(p) == 2 and all(isinstance(n, INTEGERS) and n >= 0 for n in p)
                    for p in padding)):
        raise ValueError(f"{name}: padding is {padding!r}; give {FORMS}")
    (top, bottom), (left, right) = padding
    return (int(top), int(bottom)), (int(left), int(right))


def _pair(name: str, what: str, value: Pair) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(n, INTEGERS) and n >= 1 for n in pair):
        raise ValueError(f"{name}: {what} is {value!r}; give an integer from 1 up, or a pair of them")
    return int(pair[0]), int(pair[1])
