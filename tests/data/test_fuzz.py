"""Damaged data files through the loaders, in bounded memory: what may happen is said in fuzz.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.once, pytest.mark.skipif(not sys.platform.startswith("linux"),
                                                   reason="address space is limited on Linux only")]


def fuzz(seed, count, seconds):
    """The outcome of fuzz.py in a process of its own."""
    done = subprocess.run([sys.executable, str(Path(__file__).parent.parent / "fuzz.py"), str(seed), str(count)],
                          capture_output=True, text=True, timeout=seconds, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def judge(ends, count):
    assert ends["findings"] == [] and ends["success"] + ends["refused"] == count
    assert ends["refused"] > count * 0.6 and ends["success"] > count * 0.08  # damage that damages, and some that may not


def test_damaged_files_end_in_a_sentence_or_in_what_they_say():
    judge(fuzz(0, 330, 300), 330)


@pytest.mark.slow
def test_damaged_files_end_in_a_sentence_or_in_what_they_say_in_the_long_form():
    judge(fuzz(1, 6600, 5400), 6600)
