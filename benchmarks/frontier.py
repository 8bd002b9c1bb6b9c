"""Recipes along the frontier of accuracy against weights left: the FCN with other wd and tau.

    python benchmarks/frontier.py FOLDER        # writes a TOML file per point
    minimask sweep FOLDER/*.toml --dataset mnist-validation --seeds 2 --jobs 2 --out runs/frontier
    minimask report runs/frontier

mnist-validation holds out 10,000 of the training images, so that nothing is chosen on the test set.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from minimask import recipes

#: threshold -> weight decays.
GRID = {0.005: (7e-4, 1.2e-3), 0.01: (2e-4, 5e-4, 6e-4, 7e-4, 1e-3), 0.02: (3e-4,)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for tau, decays in GRID.items():
        for wd in decays:
            recipe = replace(recipes.find("fcn"), name=f"fcn-tau{tau:g}-wd{wd:g}", wd=wd, source_settings={"tau": tau},
                             about=f"FCN, tau {tau:g}, wd {wd:g}")
            (folder / f"{recipe.name}.toml").write_text(recipe.toml(), encoding="utf-8")
