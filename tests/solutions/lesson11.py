"""Reference solutions of lesson 11."""

import math


def standardise(x):
    xp = x.__array_namespace__()
    centred = x - xp.mean(x, axis=1, keepdims=True)
    std = xp.sqrt(xp.mean(centred * centred, axis=1, keepdims=True))
    least = xp.ones_like(std) * (1 / math.sqrt(x.shape[1]))
    return centred / xp.maximum(std, least)


def one_hot(labels, classes, like):
    xp = like.__array_namespace__()
    columns = xp.arange(classes, dtype=labels.dtype, device=like.device)
    return xp.astype(labels[:, None] == columns[None, :], like.dtype)


def mask_counts(s):
    xp = s.__array_namespace__()
    return tuple(int(xp.count_nonzero(part)) for part in (s > 0, s == 0, s < 0))
