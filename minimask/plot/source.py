"""The source of a function as it stands in its file, and of an op the parts that make its value and its pullback."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

#: The folder that holds the package: places in it are named from there, those elsewhere by their file alone.
HOME = Path(__file__).parents[2]

#: A part of a text: line and column where it begins, line and column behind its end, all from 0.
Part = tuple[int, int, int, int]


@dataclass(frozen=True)
class Source:
    """The text of a function, without the indentation that all its lines share; its file and first line.

    Attributes: about: the first line of its docstring. value, pullback: the parts that make them, in an op.
    """

    text: str
    file: str
    line: int
    about: str = ""
    value: tuple[Part, ...] = ()
    pullback: tuple[Part, ...] = ()


def of(function: Callable[..., Any]) -> Source:
    """The source of a function; where there is none (a console), a line that says so."""
    try:
        lines, line = inspect.getsourcelines(function)
        file = shown_path(inspect.getsourcefile(function) or "?")
    except (OSError, TypeError):
        return Source(f"# the source of {getattr(function, '__name__', 'this function')} is not in a file", "?", 0)
    about = (inspect.getdoc(function) or "").partition("\n")[0]
    return Source(textwrap.dedent("".join(lines)).rstrip(), file, line, about)


@lru_cache(maxsize=256)
def of_op(function: Callable[..., Any], pullback_line: int) -> Source:
    """The source of an op's function, with the parts that made its value and the pullback that begins in that line."""
    found = of(function)
    try:
        tree = next(iter(ast.parse(found.text).body), None)
    except SyntaxError:  # a lambda inside an expression
        return found
    if not isinstance(tree, ast.FunctionDef):
        return found
    made_at = pullback_line - found.line + 1
    inner: dict[str, ast.FunctionDef] = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for given in _own(tree):
        pair = given.value if isinstance(given, ast.Return) else None
        if not isinstance(pair, ast.Tuple) or len(pair.elts) != 2:
            continue
        value, back = pair.elts
        made: list[Any] = [given, inner.get(back.id, back) if isinstance(back, ast.Name) else back]
        if any(node.lineno <= made_at <= node.end_lineno for node in made):
            lines = found.text.splitlines()
            return replace(found, value=tuple(_part(lines, each) for each in _made(tree, value)),
                           pullback=tuple(_part(lines, each) for each in _back(inner, back)))
    return found


def _own(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function but for those of the functions inside it."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            yield node
            yield from _own(node)


def _made(tree: ast.FunctionDef, value: ast.expr) -> Iterator[ast.AST]:
    """The expression that is returned; where that is a name, what was assigned to it, too."""
    if isinstance(value, ast.Name):
        for node in _own(tree):
            targets = node.targets if isinstance(node, ast.Assign) else ()
            names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            if value.id in names:
                yield node
    yield value


def _back(inner: dict[str, ast.FunctionDef], pullback: ast.expr) -> Iterator[ast.AST]:
    """The functions inside that the pullback is, or calls, and the lambda, or the name, that is returned."""
    named = {node.id for node in ast.walk(pullback) if isinstance(node, ast.Name)}
    yield from (function for name, function in inner.items() if name in named)
    yield pullback


def _part(lines: list[str], node: Any) -> Part:
    """Where a node stands; Python counts its columns in bytes."""
    first, last = node.lineno - 1, node.end_lineno - 1
    return (first, len(lines[first].encode()[:node.col_offset].decode()),
            last, len(lines[last].encode()[:node.end_col_offset].decode()))


def shown_path(name: str) -> str:
    """A file as it is named to a reader: from the folder of the package, or by its name alone."""
    path = Path(name)
    return path.relative_to(HOME).as_posix() if path.is_relative_to(HOME / "minimask") else path.name
