"""Who is told of training, and when; test_train.py and test_checkpoint.py look at what is told."""

import tracemalloc

import numpy as np
import pytest

from minimask import data, loop, models, optim, train
from minimask.mask import SignedSupermask

RNG = np.random.default_rng(0)
SQUARES = data.Dataset("squares", RNG.random((12, 2, 2, 1)), np.arange(12) % 2, RNG.random((4, 2, 2, 1)), np.arange(4) % 2,
                       ("a", "b"))


class Hears(loop.Listener):
    """Writes down what it is told, into a list that several share; `fails`: what it answers with an error."""

    def __init__(self, name, heard, fails=()):
        self.name, self.heard, self.fails = name, heard, fails

    def hear(self, what):
        self.heard.append(f"{self.name} {what}")
        if what in self.fails:
            raise ZeroDivisionError(f"{self.name} {what}")

    def begin(self, training):
        self.hear("begin")

    def step(self, training, loss):
        self.hear(f"step {training.epoch}.{training.step}")

    def epoch(self, training, entry, last):
        self.hear(f"epoch {entry['epoch']} of {last}")

    def cut_short(self, training):
        self.hear("cut short")

    def end(self, training):
        self.hear("end")


def run(epochs, **fails):
    rng, heard = np.random.default_rng(0), []
    net = models.fcn(SignedSupermask(), rng, (2, 2, 1), (6, 2))
    training = loop.Training(net, SQUARES, optim.SGDW(net.parameters(), 0.05), rng, 8, train.new_record())
    listeners = [Hears("A", heard, fails.get("A", ())), Hears("B", heard, fails.get("B", ()))]
    try:
        training.run(epochs, listeners)
    except ZeroDivisionError as error:
        heard.append(f"raised {error}")
    return heard, training


def test_listeners_are_told_in_order_and_of_the_end_in_reverse():
    heard, training = run(2)
    assert heard == ["A begin", "B begin", "A step 1.1", "B step 1.1", "A step 1.2", "B step 1.2", "A epoch 1 of 2",
                     "B epoch 1 of 2", "A step 2.1", "B step 2.1", "A step 2.2", "B step 2.2", "A epoch 2 of 2",
                     "B epoch 2 of 2", "B end", "A end"]
    assert len(training.record["epochs"]) == 2


def test_the_loop_needs_no_listener():
    rng = np.random.default_rng(0)
    net = models.fcn(SignedSupermask(), rng, (2, 2, 1), (6, 2))
    training = loop.Training(net, SQUARES, optim.SGDW(net.parameters(), 0.05), rng, 8, train.new_record())
    assert training.run(1) is training.record and len(training.record["epochs"]) == 1


@pytest.mark.parametrize("fails", [{"A": ["step 2.1"]}, {"B": ["step 2.1"]}, {"A": ["step 2.1"], "B": ["cut short"]},
                                   {"B": ["step 2.1", "cut short"], "A": ["cut short"]}], ids=str)
def test_everybody_hears_that_it_is_cut_short_and_the_net_is_put_back(fails):
    """Whatever another one answers."""
    heard, training = run(3, **fails)
    assert heard.index("B cut short") < heard.index("A cut short") and heard[-1].startswith("raised ")
    assert not any("end" in each for each in heard)
    assert all(np.array_equal(a, training.last_arrays[name]) for name, a in training.net.arrays().items())
    assert len(training.record["epochs"]) == 1


def test_an_error_at_the_begin_trains_nothing():
    heard, training = run(1, B=["begin"])
    assert heard == ["A begin", "B begin", "raised B begin"] and training.step == 0


def test_evaluating_takes_no_more_memory_than_a_step(rng):
    """However many images there are to be evaluated on: they go through the net some at a time."""
    images, labels = rng.integers(0, 256, (600, 16, 16, 3), dtype=np.uint8), rng.integers(0, 10, 600)
    dataset = data.Dataset("noise", images, labels, images, labels, tuple("0123456789"))
    net = models.conv2(weights=SignedSupermask(tau=0.01), rng=rng, input_shape=(16, 16, 3))
    optimizer = optim.SGDW(net.parameters(), 1e-4)
    training = loop.Training(net, dataset, optimizer, rng, 128, train.new_record())

    def peak(work):
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    training.train_step()  # buffers that stay
    assert peak(lambda: loop.evaluate(net, images, labels)) < peak(training.train_step)
