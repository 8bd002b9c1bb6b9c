#!/usr/bin/env bash
# `marimo convert` makes `total = total + amount` of `total += amount` in a function, if its cell assigns a name anew.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet marimo==0.25.2 jupytext==1.19.6 numpy==2.4.6
cat > "$folder/notebook.py" <<'NOTEBOOK'
# %%
import numpy as np

# %%
x = 1.0

# %%
print("x is", x)

# %%
def add(total, amount):
    total += amount  # into the caller's array


x = 2.0

# %%
totals = np.zeros(2)
add(totals, x)
print("after add:", totals)
NOTEBOOK
cd "$folder"
"$folder/venv/bin/marimo" --version
"$folder/venv/bin/marimo" convert notebook.py -o converted.py > /dev/null
grep "total = \|total += " converted.py
script=$("$folder/venv/bin/python" notebook.py | tail -1)
converted=$("$folder/venv/bin/python" converted.py | tail -1)
"$folder/venv/bin/marimo" check converted.py && echo "marimo check has nothing to say"
echo "as a script: $script; converted: $converted"
[ "$script" = "after add: [2. 2.]" ] && [ "$converted" = "after add: [0. 0.]" ] # a change here is news
