#!/usr/bin/env bash
# A net with two heads, trained by a script: bash run.sh (needs `pip install '.[plot]'`). All it makes is in out/.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf out
PS4='$ '
set -x

# Train once without a stop. Then once more, stopped in the middle as by a scheduler, and go on: the same bits.
python two_heads.py out/whole
bash ../midway.sh out/run.jsonl 5 python two_heads.py out/run
python two_heads.py out/run
cmp out/whole/network.npz out/run/network.npz

# The script kept the run as `minimask train` does, so the commands take it.
minimask report out/run --out out/report > /dev/null # report.md, report.html, figures
minimask compare out/run out/whole
minimask inspect out/run # out/run/anatomy/index.html: what the mask learned
minimask export out/run -o out/heads.mmk
minimask predict out/heads.mmk out/digit.npy
