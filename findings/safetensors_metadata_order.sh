#!/usr/bin/env bash
# safetensors writes other bytes from call to call when metadata have two keys.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import save

array = {"weight": np.zeros(3, np.float32)}
one = {save(array, {"format": "pt"}) for _ in range(64)}
two = {save(array, {"format": "pt", "about": "a net"}) for _ in range(64)}
print(f"safetensors {safetensors.__version__}, 64 calls of save() with the same array in one process")
print(f"one metadata key:  {len(one)} different files")
print(f"two metadata keys: {len(two)} different files, whose headers are")
for content in sorted(two):
    print("   ", content[8:8 + int.from_bytes(content[:8], "little")].decode().rstrip())
sys.exit(0 if (len(one), len(two)) == (1, 2) else "this is no longer so")
PYTHON
