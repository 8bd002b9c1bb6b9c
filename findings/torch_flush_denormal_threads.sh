#!/usr/bin/env bash
# PyTorch 2.13 on x86: torch.set_flush_denormal sets the calling thread and says True; threads that run stay as they were.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
look() {
  "$folder/venv/bin/python" - "$1" <<'PYTHON'
import sys

import torch

torch.set_num_threads(2)


def flushed():
    """The share of equal products, denormal in float32, that are 0. Two threads share the work."""
    x = torch.full((4_000_000,), 1e-20)
    return (torch.mul(x, x).view(torch.int32) == 0).sum().item() / len(x)


when, found = sys.argv[1], []
if when == "late":
    found.append(("before", flushed()))
for on in (True, False):
    said = torch.set_flush_denormal(on)
    found.append((f"after set_flush_denormal({on}), which says {said}", flushed()))
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, set", "after" if when == "late" else "before",
      "they started")
for what, share in found:
    print(f"  {what:50} {share:.0%} of equal products are 0")
expected = [0.0, 0.5, 0.0] if when == "late" else [1.0, 0.5]
sys.exit(0 if [share for _, share in found] == expected else "this is no longer so")
PYTHON
}
look late
look early
