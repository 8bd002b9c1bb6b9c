"""What to train and how: a recipe (recipe.py), those of the paper and its relatives (table.py), grids (grid.py)."""

from .recipe import (LOSSES, METRICS, NEWER, OPTIMIZERS, RANGES, SCHEDULES, SETTINGS, SOURCES, TYPES, Recipe, from_dict,
                     read)
from .table import EXTREME, FORMER, MEASURED, MEASURED_ON_COPIES, PAPER, PUBLISHED, RECIPES, find, shipped

__all__ = ["EXTREME", "FORMER", "LOSSES", "MEASURED", "MEASURED_ON_COPIES", "METRICS", "NEWER", "OPTIMIZERS", "PAPER",
           "PUBLISHED", "RANGES", "RECIPES", "SCHEDULES", "SETTINGS", "SOURCES", "TYPES", "Recipe", "find", "from_dict",
           "read", "shipped"]
