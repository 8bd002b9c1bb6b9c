"""Memory that is used again: what the C library is told, and when."""

import threading

import numpy as np
import pytest

from minimask import data, models, optim, train
from minimask.fast import memory
from minimask.mask import SignedSupermask


@pytest.fixture
def mallopt(monkeypatch):
    """The calls that reach a C library which takes thresholds up to `mallopt.limit`."""
    class Calls(list):
        limit = 1 << 40

    calls = Calls()

    class Library:
        @staticmethod
        def mallopt(setting, value):
            calls.append((setting, value))
            return int(value <= calls.limit)

        @staticmethod
        def malloc_trim(pad):
            calls.append(("trim", pad))

    monkeypatch.setattr(memory, "_glibc", lambda: Library)
    return calls


SET, PUT_BACK = [(-3, 1 << 30), (-1, (1 << 31) - 1)], [(-3, 1 << 25), (-1, 1 << 26), ("trim", 0)]


def test_memory_settings_are_put_back(mallopt):
    for _ in range(2):
        mallopt.clear()
        with pytest.raises(KeyError), memory.kept_memory(), memory.kept_memory():
            assert mallopt == SET
            raise KeyError
        assert mallopt == SET + PUT_BACK


def test_memory_settings_stay_until_the_last_thread_is_done(mallopt):
    def other():
        with memory.kept_memory():
            pass

    with memory.kept_memory():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert mallopt == SET


def test_an_older_c_library_is_asked_for_what_it_takes(mallopt):
    """A refused threshold would stay at 128 KB for good, since setting the other one stops glibc from raising it."""
    mallopt.limit = (1 << 31) - 1
    with memory.kept_memory():
        assert mallopt == SET
    mallopt.clear()
    mallopt.limit = 1 << 25
    with memory.kept_memory():
        assert mallopt == [SET[0], (-3, 1 << 25), SET[1]]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.kept_memory():
        pass


def test_training_and_evaluation_use_memory_again(monkeypatch, mallopt):
    seen, prepare = set(), data.Preprocess.__call__
    monkeypatch.setattr(data.Preprocess, "__call__", lambda self, x: seen.add(len(mallopt)) or prepare(self, x))
    digits, rng = data.digits(), np.random.default_rng(0)
    net = models.fcn(SignedSupermask(), rng, digits.input_shape, (10,))
    train.evaluate(net, digits.test_images, digits.test_labels)
    assert mallopt == SET + PUT_BACK
    mallopt.clear()
    train.fit(net, digits, optim.SGDW(net.parameters(), 0.01), 1, rng)
    assert mallopt == SET + PUT_BACK and seen == {2}  # within, and entered once
