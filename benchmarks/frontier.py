"""Recipes along the frontier of accuracy against weights left: the FCN with other tau, wd and schedules.

    python benchmarks/frontier.py FOLDER        # writes a TOML file per point
    minimask sweep FOLDER/*.toml --dataset mnist-validation --seeds 2 --jobs 2 --out runs/frontier
    minimask report runs/frontier

mnist-validation holds out 10,000 of the training images, so that nothing is chosen on the test set.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from minimask import recipes

#: tau, lr, epochs in which lr and wd fall to 0.9 -> weight decays. Recipe `fcn` is (0.01, 0.05, 10) with 5e-4.
GRID = {(0.005, 0.05, 10): (7e-4, 1.2e-3), (0.01, 0.05, 10): (2e-4, 5e-4, 6e-4, 7e-4), (0.01, 0.05, 5): (6e-4, 7e-4),
        (0.01, 0.05, 3): (6e-4,), (0.01, 0.1, 4): (1.2e-3,)}


def point(tau, lr, fall, wd):
    """A recipe; its name says what is other than in recipe `fcn`, tau and wd always."""
    recipe = replace(recipes.find("fcn"), name=f"fcn-tau{tau:g}-wd{wd:g}", about=f"FCN, tau {tau:g}, wd {wd:g}", wd=wd,
                     source_settings={"tau": tau})
    if lr != recipe.lr:
        recipe = replace(recipe, name=f"{recipe.name}-lr{lr:g}", about=f"{recipe.about}, lr {lr:g}", lr=lr)
    if fall != 10:
        recipe = replace(recipe, name=f"{recipe.name}-fall{fall}", schedule_settings={"epochs": fall},
                         about=f"{recipe.about}, lr and wd fall in {fall} epochs")
    return recipe


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for (tau, lr, fall), decays in GRID.items():
        for wd in decays:
            recipe = point(tau, lr, fall, wd)
            (folder / f"{recipe.name}.toml").write_text(recipe.toml(), encoding="utf-8")
