"""Mutated files of every format that commands read: refused in a sentence, or what they say; in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.once
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux only")
@pytest.mark.parametrize("count", [320, pytest.param(8000, marks=pytest.mark.slow)])
def test_mutated_files_are_refused_in_a_sentence_or_are_what_they_say(count, capsys):
    """With fuzz.py (6,600), fuzz_checkpoint.py (3,400) and fuzz_export.py (10,000) 28,000 files in the long form."""
    done = subprocess.run([sys.executable, str(Path(__file__).parent / "fuzz_files.py"), str(count), "0", "200"], timeout=5400,
                          capture_output=True, text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    tally = json.loads(done.stdout)
    assert sum(sum(each.values()) for each in tally.values()) == count
    for name, each in tally.items():  # damage that damages; and some that may not, or the readers took nothing
        assert each["refused"] > 0.4 * count / len(tally), (name, tally)
    assert sum(each["loaded"] for each in tally.values()) > 0.05 * count, tally
    with capsys.disabled():
        print("\nmutated files:", ", ".join(f"{name} {each['refused']}/{sum(each.values())}" for name, each in tally.items()), "refused")
