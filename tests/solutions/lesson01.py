"""Reference solutions of lesson 01."""

import numpy as np


def topological_order(root):
    order, seen, stack = [], {id(root)}, [(root, iter(root.inputs))]
    while stack:
        value, inputs = stack[-1]
        for x in inputs:
            if id(x) not in seen:
                seen.add(id(x))
                stack.append((x, iter(x.inputs)))
                break
        else:
            order.append(value)
            stack.pop()
    return order


def backward(root, g):
    order = topological_order(root)
    for value in order:
        value.grad = np.zeros_like(value.data)
    root.grad = np.array(g)
    for value in reversed(order):
        if value.pullback is not None:
            for x, part in zip(value.inputs, value.pullback(value.grad)):
                x.grad = x.grad + part


def elu(x):
    y = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return y, lambda g: (g * np.where(x > 0, 1.0, y + 1),)
