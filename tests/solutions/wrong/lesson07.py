"""Wrong solutions of lesson 07, as students write them: each must fail its task's tests."""

import numpy as np


def taken(x, kh, kw, stride, axis=3, order="row by row"):
    """The slices of every window in a list."""
    n, h, w, c = x.shape
    oh, ow = (h - kh) // stride + 1, (w - kw) // stride + 1
    places = [(i, j) for i in range(kh) for j in range(kw)]
    if order == "column by column":
        places = [(i, j) for j in range(kw) for i in range(kh)]
    return [x[:, i:i + stride * (oh - 1) + 1:stride, j:j + stride * (ow - 1) + 1:stride, :] for i, j in places]


def column_by_column(x, kh, kw, stride=1):
    slices = taken(x, kh, kw, stride, order="column by column")
    return np.concatenate(slices, axis=3).reshape(-1, kh * kw * x.shape[3])


def channels_first(x, kh, kw, stride=1):
    return np.stack(taken(x, kh, kw, stride), axis=4).reshape(-1, kh * kw * x.shape[3])  # (n, oh, ow, c, kh*kw)


def stride_ignored(x, kh, kw, stride=1):
    return np.concatenate(taken(x, kh, kw, 1), axis=3).reshape(-1, kh * kw * x.shape[3])


def slices_below_each_other(x, kh, kw, stride=1):
    return np.concatenate(taken(x, kh, kw, stride), axis=0).reshape(-1, kh * kw * x.shape[3])


def last_window_lost(x, kh, kw, stride=1):
    n, h, w, c = x.shape
    slices = [x[:, i:h - kh + i:stride, j:w - kw + j:stride, :] for i in range(kh) for j in range(kw)]
    return np.concatenate(slices, axis=3).reshape(-1, kh * kw * c)


def gradients(x, w, g, overwrite=False, turn=False, first_image=False, first_rows=False):
    """dx and dw with one mistake."""
    kh, kw, c, outputs = w.shape
    n, oh, ow, _ = g.shape
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for i in range(kh):
        for j in range(kw):
            part = x[:, i:i + oh, j:j + ow, :]
            dw[i, j] = np.einsum("nabc,nabo->co", part[:1] if first_image else part, g[:1] if first_image else g)
            kernel = w[kh - 1 - i, kw - 1 - j] if turn else w[i, j]
            if overwrite:
                dx[:, i:i + oh, j:j + ow, :] = g @ kernel.T
            else:
                dx[:, i:i + oh, j:j + ow, :] += g @ kernel.T
    return dx, dw


def windows_overwrite_each_other(x, w, g):
    return gradients(x, w, g, overwrite=True)


def kernel_turned_once_too_often(x, w, g):
    return gradients(x, w, g, turn=True)


def first_image_only(x, w, g):
    return gradients(x, w, g, first_image=True)


def mean_over_the_batch(x, w, g):
    dx, dw = gradients(x, w, g)
    return dx, dw / len(x)


def both_swapped(x, w, g):
    return gradients(x, w, g)[::-1]


def short_last_block_lost(convolve, x, images):
    blocks = [convolve(x[i * images:(i + 1) * images]) for i in range(len(x) // images)]
    return np.concatenate(blocks) if blocks else convolve(x[:1])[:0]


def whole_batch_at_once(convolve, x, images):
    return convolve(x)


def always_the_first_block(convolve, x, images):
    y = [convolve(x[:images]) for _ in range(0, len(x), images)]
    return np.concatenate(y)[:len(x)]


def a_list_of_blocks(convolve, x, images):
    return [convolve(x[first:first + images]) for first in range(0, len(x), images)]


def one_by_one(convolve, x, images):
    return np.concatenate([convolve(x[i:i + 1]) for i in range(len(x))])


WRONG = {
    "task1": [{"windows": f} for f in (
        column_by_column, channels_first, stride_ignored, slices_below_each_other, last_window_lost)],
    "task2": [{"conv_pullback": f} for f in (
        windows_overwrite_each_other, kernel_turned_once_too_often, first_image_only, mean_over_the_batch,
        both_swapped)],
    "task3": [{"in_blocks": f} for f in (
        short_last_block_lost, whole_batch_at_once, always_the_first_block, a_list_of_blocks, one_by_one)],
}
