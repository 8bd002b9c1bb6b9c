"""Wrong solutions of lesson 09, as students write them: each must fail its task's tests."""

import itertools

import numpy as np


def over_all_weights(mask):
    return (mask < 0).mean(axis=0)


def nan_for_units_without_weights(mask):
    with np.errstate(invalid="ignore"):
        return (mask < 0).sum(axis=0) / (mask != 0).sum(axis=0)


def per_input(mask):
    return (mask < 0).sum(axis=1) / np.maximum((mask != 0).sum(axis=1), 1)


def kept_in_place_of_inverted(mask):
    return (mask > 0).sum(axis=0) / np.maximum((mask != 0).sum(axis=0), 1)


def no_weight_in_front(masks):
    return [(s == 0).all(axis=0) for s in masks[:-1]]


def no_weight_behind(masks):
    return [(s == 0).all(axis=1) for s in masks[1:]]


def only_the_neighbours(masks):
    return [(a == 0).all(axis=0) | (b == 0).all(axis=1) for a, b in itertools.pairwise(masks)]


def both_in_place_of_either(masks):
    return [(a == 0).all(axis=0) & (b == 0).all(axis=1) for a, b in itertools.pairwise(masks)]


def sums_that_cancel(masks):
    forward, backward = np.ones(masks[0].shape[0]), np.ones(masks[-1].shape[1])
    fed, heard = [], []
    for s in masks[:-1]:
        forward = forward @ s
        fed.append(forward != 0)
    for s in reversed(masks[1:]):
        backward = s @ backward
        heard.insert(0, backward != 0)
    return [~(a & b) for a, b in zip(fed, heard)]


def alive_in_place_of_dead(masks):
    return [~dead for dead in dead(masks)]


def dead(masks):
    fed, heard = [np.ones(masks[0].shape[0], bool)], [np.ones(masks[-1].shape[1], bool)]
    for s in masks:
        fed.append(((s != 0) & fed[-1][:, None]).any(axis=0))
    for s in reversed(masks):
        heard.insert(0, ((s != 0) & heard[0][None, :]).any(axis=1))
    return [~(a & b) for a, b in zip(fed[1:-1], heard[1:-1])]


def columns_only(weights):
    gone = [*dead(weights), np.zeros(weights[-1].shape[1], bool)]
    return [w[:, ~after] for w, after in zip(weights, gone)]


def all_zero_rows_and_columns(weights):
    return [w[np.ix_((w != 0).any(axis=1), (w != 0).any(axis=0))] for w in weights]


def inputs_dropped_too(weights):
    every = [(weights[0] != 0).any(axis=1), *(~gone for gone in dead(weights)), np.ones(weights[-1].shape[1], bool)]
    return [w[np.ix_(before, after)] for w, before, after in zip(weights, every[:-1], every[1:])]


def one_walk_only(weights):
    every = [np.ones(weights[0].shape[0], bool), *(~gone for gone in only_the_neighbours(weights)),
             np.ones(weights[-1].shape[1], bool)]
    return [w[np.ix_(before, after)] for w, before, after in zip(weights, every[:-1], every[1:])]


def set_to_zero(weights):
    gone = [*dead(weights), np.zeros(weights[-1].shape[1], bool)]
    return [np.where(after[None, :], 0.0, w) for w, after in zip(weights, gone)]


WRONG = {
    "task1": [{"inverted_share": f} for f in (
        over_all_weights, nan_for_units_without_weights, per_input, kept_in_place_of_inverted)],
    "task2": [{"dead_units": f} for f in (
        no_weight_in_front, no_weight_behind, only_the_neighbours, both_in_place_of_either, sums_that_cancel,
        alive_in_place_of_dead)],
    "task3": [{"compact": f} for f in (
        columns_only, all_zero_rows_and_columns, inputs_dropped_too, one_walk_only, set_to_zero)],
}
