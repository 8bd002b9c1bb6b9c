"""Values set on the command line: `--set wd=1e-4,3e-4 --set source_settings.tau=0.01,0.02` makes a grid of recipes.

A cell of the grid is a recipe like any other, with a name that says its values: ``fcn-wd_0.0001-source.tau_0.01``. The
name comes from the values alone, whatever order or spelling they were given in: so a grid given again is the same runs.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from ..errors import UsageError, unknown
from ..fields import brief
from .recipe import MOST_NAME, TYPES, Recipe

#: Recipes of one grid, at most: sweep.json holds every one of them.
MOST_CELLS = 2000
#: What says what a recipe is called and is no value of it.
NAMES = ("name", "about")
#: Tables of settings; their keys are set one by one.
TABLES = tuple(key for key, kind in TYPES.items() if kind is dict)
#: What a recipe has where it says nothing; records leave out keys that stand at it.
DEFAULTS = {each.name: each.default for each in fields(Recipe) if each.default is not MISSING}


@dataclass(frozen=True)
class Cell:
    """One recipe of a grid. base: the name of the recipe that it was made from. values: what was set, by dotted key."""

    recipe: Recipe
    base: str
    values: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for record.json: :func:`agrees` says whether it is true of a recipe."""
        return {"recipe": self.base, "values": dict(self.values)}


def choices(words: Sequence[str]) -> dict[str, list[Any]]:
    """KEY=VALUE,VALUE... of every --set, by key; a value is written as in a recipe file, and a text needs no quotes.

    Raises UsageError: no such key, a key or a value given twice, nothing to set.
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not text.strip():
            raise UsageError(f"--set {brief(word)} sets nothing; give KEY=VALUE, or KEY=VALUE,VALUE,... for a grid")
        key = key.strip()
        _refuse_key(key)
        if key in found:
            raise UsageError(f"--set {key} is there twice; give all its values at once: --set {key}=VALUE,VALUE")
        values = [_value(part.strip()) for part in _parts(text)]
        for i, value in enumerate(values):
            if any(value == each and type(value) is type(each) for each in values[:i]):
                raise UsageError(f"--set {key}: {brief(value)} is there twice; give every value once")
        found[key] = values
    return {key: found[key] for key in sorted(found, key=_order)}


def _order(key: str) -> tuple[int, str]:
    """Keys as a recipe has them, settings by their names."""
    return list(TYPES).index(key.partition(".")[0]), key


def _refuse_key(key: str) -> None:
    """UsageError unless a recipe has this key, or a table of settings that it may be in."""
    table, dot, name = key.partition(".")
    if table in NAMES:
        raise UsageError(f"--set {table}: a recipe's {table} is no setting; the name of a run is made of what is set")
    if table not in TYPES:
        raise UsageError(f"--set {brief(key)}: {unknown('key', table, [each for each in TYPES if each not in NAMES])}")
    if (table in TABLES) != bool(dot and name):
        raise UsageError(f"--set {key}: " + (f"{table} is a table; set its keys, {table}.KEY=VALUE"
                                             if table in TABLES else f"{table} holds no keys; give {table}=VALUE"))


def _parts(text: str) -> Iterator[str]:
    """The text cut at its commas, but for those inside quotes and brackets."""
    depth, quote, start = 0, "", 0
    for i, each in enumerate(text):
        if quote:
            quote = "" if each == quote else quote
        elif each in "\"'":
            quote = each
        elif each in "[{":
            depth += 1
        elif each in "]}":
            depth -= 1
        elif each == "," and depth <= 0:
            yield text[start:i]
            start = i + 1
    yield text[start:]


def _value(text: str) -> Any:
    """A value of TOML; whatever is none is a text."""
    import tomllib

    if not text:
        raise UsageError("--set: there is no value between two commas; give KEY=VALUE,VALUE")
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = found.get("value")
    return value if len(found) == 1 and isinstance(value, (bool, int, float, str, list, dict)) else text


def cells(recipe: Recipe, chosen: Mapping[str, Sequence[Any]]) -> list[Cell]:
    """Every combination of the values, the last key's values turning first.

    Raises UsageError: a value that the recipe may not have, more than MOST_CELLS recipes, two of one name.
    """
    count = math.prod(map(len, chosen.values()))
    if count > MOST_CELLS:
        raise UsageError(f"--set gives {count:,} recipes, but a grid may have {MOST_CELLS:,}; give fewer values")
    found: dict[str, Cell] = {}
    for values in itertools.product(*chosen.values()):
        cell = cell_of(recipe, dict(zip(chosen, values)))
        if cell.recipe.name in found:
            raise UsageError(f"--set gives two recipes of one name, {cell.recipe.name}; give every value once, and "
                             "texts that differ in their letters and digits")
        found[cell.recipe.name] = cell
    return list(found.values())


def cell_of(recipe: Recipe, values: Mapping[str, Any]) -> Cell:
    """The recipe with these values, and a name that says so.

    Another weight source, schedule or model begins without the settings of the one that it replaces.
    """
    changes: dict[str, Any] = {}
    for key, value in values.items():
        table, _, name = key.partition(".")
        if name:
            changes[table] = {**changes.get(table, getattr(recipe, table)), name: value}
        else:
            changes[key] = value
            if f"{key}_settings" in TABLES and value != getattr(recipe, key):
                changes[f"{key}_settings"] = {}
    made = replace(recipe, **changes)
    settled = {key: read(vars(made), key) for key in values}  # 1 may have become 1.0
    return Cell(replace(made, name=_name(recipe.name, settled)), recipe.name, settled)


def read(recipe: Mapping[str, Any], key: str) -> Any:
    """What a recipe, as plain data, has at a dotted key, its default included; None where it has nothing."""
    table, _, name = key.partition(".")
    value = recipe.get(table, DEFAULTS.get(table))
    return (value.get(name) if isinstance(value, Mapping) else None) if name else value


def agrees(made: Mapping[str, Any], recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe, as plain data, has the values that :meth:`Cell.as_dict` says were set."""
    values = made.get("values")
    return (set(made) == {"recipe", "values"} and type(made["recipe"]) is str and isinstance(values, dict)
            and all(key not in NAMES and read(recipe, key) is not None and read(recipe, key) == value
                    for key, value in values.items()))


def words(values: Mapping[str, Any]) -> str:
    """The values for people: wd 0.0001, source tau 0.01."""
    return ", ".join(f"{_short(key).replace('.', ' ')} {plain(value)}" for key, value in values.items())


def plain(value: Any) -> str:
    """A value as it is written: numbers as short as they can be."""
    if isinstance(value, float):
        short = f"{value:g}"
        return (short if float(short) == value else repr(value)).replace("e+", "e")
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(key: str) -> str:
    """source.tau for source_settings.tau."""
    return key.replace("_settings.", ".")


def _name(base: str, values: Mapping[str, Any]) -> str:
    """The base's name and every value; too long a one ends in a digest of the whole."""
    parts = [base, *(f"{_short(key)}_{plain(value)}" for key, value in values.items())]
    whole = "-".join("".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in part)
                     for part in parts)
    if len(whole) <= MOST_NAME:
        return whole
    import hashlib

    return f"{whole[:MOST_NAME - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
