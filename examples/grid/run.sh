#!/usr/bin/env bash
# A grid of values times two seeds, and its table as LaTeX: bash run.sh (needs `pip install '.[plot]'`). All it makes is
# in out/.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf out
PS4='$ '
set -x

# Two values of weight decay, two of the threshold, two seeds: eight runs of the demo's net, two at a time. Stopped in
# the middle as by a scheduler, the sweep goes on when the same command is given again.
sweep=(minimask sweep digits --epochs 8 --set wd=0.01,0.02 --set source_settings.tau=0.01,0.02 --seeds 2 --jobs 2
  --threads 1 --log --quiet --out out/grid)
one=digits-wd_0.02-source.tau_0.01-seed0
bash ../midway.sh out/grid/$one/log.jsonl 3 "${sweep[@]}"
"${sweep[@]}"

# One of its runs alone, never stopped: the same bits.
minimask train digits --epochs 8 --set wd=0.02 --set source_settings.tau=0.01 --threads 1 --out out/alone --quiet
cmp out/grid/$one/network.npz out/alone/network.npz

minimask report out/grid --format latex --out out/report > out/table.tex # mean and deviation of every cell
cat out/table.tex

minimask inspect out/grid/$one --repeats 1 # its page: anatomy/index.html
minimask export out/grid/$one -o out/digits.mmk
python digit.py # out/digit.png, to have a picture
minimask predict out/digits.mmk out/digit.png
