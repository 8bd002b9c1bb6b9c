#!/usr/bin/env bash
# Pictures in folders and a CNN of one's own: bash run.sh (needs `pip install '.[plot,images]'`). All it makes is in out/.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf out
PS4='$ '
set -x

python draw.py # out/shapes/circle/000.png ..., a folder for each class

# Train once without a stop. Then once more, stopped in the middle as by a scheduler, and go on: the same bits.
minimask train shapes.toml --out out/whole --quiet
bash ../midway.sh out/run/log.jsonl 5 minimask train shapes.toml --out out/run --log --quiet
minimask train shapes.toml --resume --out out/run --quiet
cmp out/whole/network.npz out/run/network.npz

minimask report out/run --out out/report > /dev/null # report.md, report.html, figures
minimask inspect out/run --repeats 1 # out/run/anatomy/index.html: what the mask learned
minimask evaluate out/run # per class, and the most confident mistakes

# One file that classifies pictures, without the run, the data and mynets.py.
minimask export out/run -o out/shapes.mmk
minimask info out/shapes.mmk
minimask predict out/shapes.mmk out/shapes/circle/000.png out/shapes/cross/000.png out/shapes/square/000.png
