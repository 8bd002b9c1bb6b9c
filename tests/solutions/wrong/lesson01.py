"""Lesson 01: wrong solutions that a student might hand in. Each must fail its task."""

import numpy as np


def entered_on_reaching(root):
    order, seen, stack = [], set(), [root]
    while stack:
        value = stack.pop()
        if id(value) not in seen:
            seen.add(id(value))
            order.append(value)
            stack.extend(value.inputs)
    return order[::-1]


def breadth_first(root):
    order, queue = [root], [root]
    while queue:
        for x in queue.pop(0).inputs:
            if not any(x is y for y in order):
                order.append(x)
                queue.append(x)
    return order[::-1]


def recursive(root):
    order, seen = [], set()

    def visit(value):
        if id(value) not in seen:
            seen.add(id(value))
            for x in value.inputs:
                visit(x)
            order.append(value)

    visit(root)
    return order


def without_the_leaves(root):
    return [value for value in recursive(root) if value.inputs]


def pulls_at_the_first_visit(root, g, visited=None):
    visited = set() if visited is None else visited
    root.grad = g if root.grad is None else root.grad + g
    if id(root) not in visited and root.pullback is not None:
        visited.add(id(root))
        for x, part in zip(root.inputs, root.pullback(g)):
            pulls_at_the_first_visit(x, part, visited)


def last_use_wins(root, g):
    root.grad = g
    for value in reversed(recursive(root)):
        if value.pullback is not None:
            for x, part in zip(value.inputs, value.pullback(value.grad)):
                x.grad = part


def adds_to_the_last_call(root, g):
    order = recursive(root)
    for value in order:
        value.grad = np.zeros_like(value.data) if value.grad is None or value.inputs else value.grad
    root.grad = g
    for value in reversed(order):
        if value.pullback is not None:
            for x, part in zip(value.inputs, value.pullback(value.grad)):
                x.grad = x.grad + part


def adds_in_place(root, g):
    order = recursive(root)
    for value in order:
        value.grad = None
    root.grad = g
    for value in reversed(order):
        if value.pullback is not None:
            for x, part in zip(value.inputs, value.pullback(value.grad)):
                if x.grad is None:
                    x.grad = part
                else:
                    x.grad += part


def _elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def slope_off_by_one(x):
    y = _elu(x)
    return y, lambda g: (g * np.where(x > 0, 1.0, y),)


def no_comma(x):
    y = _elu(x)
    return y, lambda g: g * np.where(x > 0, 1.0, y + 1)


def forgets_the_cotangent(x):
    y = _elu(x)
    return y, lambda g: (np.where(x > 0, 1.0, y + 1),)


def products_with_the_condition(x):
    y = (x > 0) * x + (x <= 0) * (np.exp(x) - 1)
    return y, lambda g: (g * np.where(x > 0, 1.0, np.exp(x)),)


WRONG = {
    "task1": [{"topological_order": f} for f in (entered_on_reaching, breadth_first, recursive, without_the_leaves)],
    "task2": [{"backward": f} for f in (pulls_at_the_first_visit, last_use_wins, adds_to_the_last_call, adds_in_place)],
    "task3": [{"elu": f} for f in (slope_off_by_one, no_comma, forgets_the_cotangent, products_with_the_condition)],
}
