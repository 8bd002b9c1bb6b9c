"""Records of runs that never took place, whole and in agreement with their recipe: what tests of reports are made of."""

import json

import numpy as np

from minimask import data, recipes


def record(recipe, seed=0, accuracy=0.97, left=0.1, epochs=None, seconds=60.0, **more):
    """A record of so many epochs (the recipe's unless given): weights go until `left` of them are there."""
    recipe = recipes.find(recipe) if isinstance(recipe, str) else recipe
    sizes = recipe.build(data.blank(recipe.dataset), np.random.default_rng(0)).sizes()
    last = recipe.epochs if epochs is None else epochs
    entries = [_entry(recipe, sizes, epoch, accuracy if epoch == last else accuracy / 2,
                      left + (1 - left) * (1 - epoch / last), seconds / last) for epoch in range(1, last + 1)]
    return {"format": 1, "recipe": json.loads(json.dumps(recipe.as_dict())), "seed": seed, "dataset": recipe.dataset,
            "environment": {"processor": "abacus", "cores": 2, "blas_threads": 1, "backend": "numpy"},
            "epochs": entries, **more}


def _entry(recipe, sizes, epoch, accuracy, left, seconds):
    layers = []
    for name, size in sizes.items():
        stay = round(size * {"trained": 1.0, "edge-popup": recipe.source_settings.get("share")}.get(recipe.source, left))
        inverted = stay // 3 if recipe.source == "signed-supermask" else 0
        layers.append({"name": name, "weights": size, "kept": stay - inverted, "hidden": size - stay,
                       "inverted": inverted})
    weights, hidden = (sum(layer[part] for layer in layers) for part in ("weights", "hidden"))
    return {"epoch": epoch, "step": 469 * epoch, "train_loss": 1 / epoch, "train_accuracy": accuracy,
            "test_accuracy": accuracy, "weights_left": (weights - hidden) / weights,
            "flips": 0 if recipe.source == "trained" else 1000 // epoch, "seconds": seconds, "layers": layers}


def put(folder, *records):
    """Writes each record to a file of its own, RECIPE-seedS.json, in the folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in records:
        (folder / f"{each['recipe']['name']}-seed{each['seed']}.json").write_text(json.dumps(each))
    return folder
