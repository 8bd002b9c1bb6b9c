#!/usr/bin/env bash
# A table, a rule of one's own, and Adam: bash run.sh (needs `pip install '.[plot]'`). All it makes is in out/.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf out
PS4='$ '
set -x

python grow.py # out/beans.csv: four columns of measurements, and the kind

# Train once without a stop. Then once more, stopped in the middle as by a scheduler, and go on: the same bits.
minimask train beans.toml --out out/whole --quiet
bash ../midway.sh out/run/log.jsonl 5 minimask train beans.toml --out out/run --log --quiet
minimask train --resume out/run --quiet && exit 1 # it names own code: imported only where somebody says so
minimask train --resume out/run --trust --quiet   # or: minimask train beans.toml --resume --out out/run
cmp out/whole/network.npz out/run/network.npz

minimask report out/run --out out/report > /dev/null # report.md, report.html, figures
minimask inspect out/run --repeats 1 # out/run/anatomy/index.html: what the mask learned
minimask evaluate out/run # per class, and the most confident mistakes

# One file that classifies rows of raw measurements: means and spreads of the columns are in it.
minimask export out/run -o out/beans.mmk
minimask predict out/beans.mmk out/new.csv
