"""JSON that is checked before it is believed: read within bounds, without NaN, then taken field by field.

Whatever a file holds, what comes of it is plain data or a ValueError; memory is bounded by the file's size, which is
bounded, too.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes of a JSON file: a record of 100 epochs of the deepest net takes 2 MB.
MOST_BYTES = 32_000_000
#: Of what is in it beside the epochs: characters of a text, how deep it is nested, values in all.
MOST_TEXT, MOST_DEPTH, MOST_VALUES = 10_000, 10, 100_000
#: The largest whole number that is one in every reader of JSON, too.
MOST_WHOLE = 2**53


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
    except ValueError as error:  # no JSON, or a number of more digits than Python turns into one
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where} is damaged: no JSON ({error})") from error


def read(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file; ValueError, in words that begin with the file's name, where there is none."""
    try:
        value = parse(content(path, most), path.name)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is damaged: a JSON {type(value).__name__}, not an object")
    return value


def content(path: Path, most: int) -> bytes:
    """A file's bytes. OSError where it cannot be read, ValueError where it is a pipe or a device, or has more bytes."""
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe that nobody writes to is opened, too

    with open(path, "rb", opener=opener) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path.name} is no file")
        if found.st_size > most or len(text := file.read(most + 1)) > most:
            raise ValueError(f"{path.name} has {found.st_size:,} bytes, but may have {most:,}")
        return text


def refuse_unbounded(value: Any, where: str) -> None:
    """ValueError where plain data is nested too deeply, has too many values, or holds too large a number or text."""
    todo, count = [(value, 0)], 0
    while todo:
        each, depth = todo.pop()
        count += 1
        if isinstance(each, (dict, list)):
            if depth == MOST_DEPTH:
                raise ValueError(f"{where} is nested too deeply: more than {MOST_DEPTH} levels")
            todo += [(inner, depth + 1) for inner in (each.values() if isinstance(each, dict) else each)]
            todo += [(key, depth + 1) for key in each] if isinstance(each, dict) else []
            if count + len(todo) > MOST_VALUES:
                raise ValueError(f"{where} has more than {MOST_VALUES:,} values")
        elif isinstance(each, str) and len(each) > MOST_TEXT:
            raise ValueError(f"{where} holds a text of {len(each):,} characters, but {MOST_TEXT:,} are the most")
        elif (type(each) is float and not math.isfinite(each)) or (type(each) is int and abs(each) > 1 << 128):
            raise ValueError(f"{where} holds {brief(each)}, which is too large a number")


def brief(value: Any, most: int = 60) -> str:
    """At most so many characters of a value's ``repr``, of which no more is made than is shown."""
    import reprlib

    if isinstance(value, int) and value.bit_length() > 1 << 12:  # Python 3.15 tells of more, older ones raise
        return "a number of thousands of digits"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = max(most, 20)
    short.maxdict = short.maxlist = short.maxtuple = 6
    try:
        return short.repr(value)[:most]
    except ValueError:
        return "a number of thousands of digits"


class Fields:
    """A JSON object, taken key by key; ValueError for what is not as it should be.

    Args:
        value: what JSON gave. where: it is, for the sentence.
    """

    def __init__(self, value: Any, where: str):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {brief(value)}, but must be an object")
        self.left, self.where = dict(value), where

    def take(self, key: str, good: Callable[[Any], bool], needed: str) -> Any:
        if key not in self.left:
            raise ValueError(f"{self.where} has no {key!r}")
        value = self.left.pop(key)
        if not good(value):
            raise ValueError(f"{key!r} of {self.where} is {brief(value)}, but must be {needed}")
        return value

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise ValueError(f"{self.where} has an unknown {brief(min(self.left))}")

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
