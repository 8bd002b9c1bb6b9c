"""What to train and how: a recipe (recipe.py), and those of the paper and its relatives (table.py)."""

from .recipe import RANGES, SCHEDULES, SETTINGS, SOURCES, TYPES, Recipe, from_dict, read
from .table import EXTREME, MEASURED, PAPER, PUBLISHED, RECIPES, find

__all__ = ["EXTREME", "MEASURED", "PAPER", "PUBLISHED", "RANGES", "RECIPES", "SCHEDULES", "SETTINGS", "SOURCES",
           "TYPES", "Recipe", "find", "from_dict", "read"]
