"""JSON that is checked before it is believed: read without NaN, then taken field by field. Beside files.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def parse(content: str | bytes, where: str) -> Any:
    """What a JSON text says. ValueError where it is none, in words that begin with `where` it is."""
    import json

    def refuse(name: str) -> None:
        raise ValueError(f"{where} holds {name}, which is no number")

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is damaged: it is no text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is damaged: no JSON ({error})") from error


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ValueError, in words that begin with the file's name, where there is none."""
    try:
        value = parse(path.read_bytes(), path.name)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is damaged: a JSON {type(value).__name__}, not an object")
    return value


class Fields:
    """A JSON object, taken key by key; ValueError for what is not as it should be.

    Args:
        value: what JSON gave. where: it is, for the sentence.
    """

    def __init__(self, value: Any, where: str):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {value!r:.60}, but must be an object")
        self.left, self.where = dict(value), where

    def take(self, key: str, good: Callable[[Any], bool], needed: str) -> Any:
        if key not in self.left:
            raise ValueError(f"{self.where} has no {key!r}")
        value = self.left.pop(key)
        if not good(value):
            raise ValueError(f"{key!r} of {self.where} is {value!r:.60}, but must be {needed}")
        return value

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise ValueError(f"{self.where} has an unknown {min(self.left)!r:.60}")

    def of(self, key: str, *types: type) -> Any:
        """A value of exactly one of these types: True is no int."""
        return self.take(key, lambda value: type(value) in types, " or ".join(TYPES[each] for each in types))

    def choice(self, key: str, values: Iterable[str]) -> str:
        names = tuple(values)
        return self.take(key, lambda value: isinstance(value, str) and value in names, f"one of {', '.join(names)}")

    def text(self, key: str) -> str:
        return self.take(key, is_line, "one printable line")

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self.take(key, lambda value: isinstance(value, list) and all(map(is_line, value)), "a list of "
                               "printable lines"))

    def integer(self, key: str, least: int, most: int) -> int:
        return self.take(key, lambda value: is_integer(value, least, most), f"a whole number from {least} to {most:,}")

    def number(self, key: str, least: float = 0.0, most: float = 1e30) -> float:
        return float(self.take(key, lambda value: type(value) in (int, float) and least <= value < most,
                               f"a number from {least:g} up"))


#: Types of JSON, in words.
TYPES: dict[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false",
                          dict: "an object", list: "a list", type(None): "null"}


def is_integer(value: Any, least: int, most: int) -> bool:
    """Whether it is a whole number from least to most; True is none."""
    return type(value) is int and least <= value <= most


def is_line(value: Any) -> bool:
    """Whether it is a printable text of one line, and not too long."""
    return isinstance(value, str) and len(value) <= 1000 and value.isprintable()
