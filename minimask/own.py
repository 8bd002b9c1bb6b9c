"""Own code by name: ``module:object`` in a recipe, such as ``model = "mynets:tiny_cnn"``.

To import a module is to run it. So it takes a :class:`Code`, the leave to import and the folder to look in first, and
only two things give one: a recipe file that is named on the command line or read by :func:`minimask.recipes.read`, and
``--trust``. A record, a checkpoint or a sweep's folder gives none: what others have made is read and never run.

What goes wrong in own code is told by :class:`OwnError`, with its file and line; what the code was, by
:func:`digests`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from .errors import MinimaskError, OutOfMemory, UsageError, unknown
from .fields import brief, refuse_unbounded

#: Characters of a name.
MOST_NAME = 200
#: Where Python's own modules are; a home folder with recipes in it may be above that.
_LIBRARY = Path(os.__file__).resolve().parent


class OwnError(MinimaskError):
    """Own code failed: the message has its file, its line, and what it raised."""


class Untrusted(UsageError):
    """What is read names own code, and nobody has said that it may be run."""


@dataclass(frozen=True)
class Code:
    """The leave to import own code. folder: where it is looked for, before Python's path; absolute."""

    folder: str


def is_own(name: str) -> bool:
    """Whether a name says where own code is, and is no name in a table of minimask's."""
    return ":" in name


def refuse_name(where: str, name: str) -> None:
    """UsageError unless `name` is module:object, in Python's identifiers and dots."""
    parts = name.split(":")
    if len(parts) != 2 or len(name) > MOST_NAME or not all(
            word.isidentifier() for part in parts for word in part.split(".")):
        raise UsageError(f"{where} is {brief(name)}, but own code is named module:object, such as mynets:tiny_cnn")


def refuse_settings(where: str, settings: Mapping[str, Any]) -> None:
    """UsageError unless own code's settings are what a recipe can hold: texts, numbers, true, false, lists of these."""
    for key, value in settings.items():
        inside = value if isinstance(value, (list, tuple)) else [value]
        if not isinstance(key, str) or not all(type(each) in (str, int, float, bool) for each in inside):
            raise UsageError(f"{where}: {key} is {brief(value)}; a setting of own code is a text, a number, true or "
                             "false, or a list of these")
        try:
            refuse_unbounded(list(inside), f"{where}: {key}")
        except ValueError as error:
            raise UsageError(str(error)) from error


# ---- importing -----------------------------------------------------------------------------------------------------

#: What was imported here, by module: the sources it is made of, and their digest when it was imported.
_imported: dict[str, tuple[list[Path], str]] = {}
#: Where it was looked for.
_folders: set[str] = set()
_lock = threading.RLock()  # workers of a cluster may be threads of one process


def find(where: str, name: str, code: Code | None) -> Any:
    """The object that ``module:object`` names.

    Args:
        where: what names it, for sentences: "recipe 'my': model". code: the leave to import it.

    Raises:
        Untrusted: there is none. UsageError: there is no such module, or no such object in it. OwnError: the module
            cannot be imported; the sentence has file and line.
    """
    refuse_name(where, name)
    module, _, path = name.partition(":")
    if code is None:
        raise untrusted(where, name)
    found: Any = _module(where, module, code)
    for word in path.split("."):
        if not hasattr(found, word):
            there = [each for each in vars(found) if not each.startswith("_")] if hasattr(found, "__dict__") else []
            raise UsageError(f"{where} is {name}: {unknown('object', word, there)}" if there else
                             f"{where} is {name}, but {module} has no {word}")
        found = getattr(found, word)
    if not callable(found):
        raise UsageError(f"{where} is {name}, which is a {type(found).__name__}; needed is a class or a function")
    return found


def untrusted(where: str, name: str) -> Untrusted:
    """The error for own code that nobody has said may be run."""
    return Untrusted(f"{where} is own code, {name}, and to import it would run it: where it is yours, or you have read "
                     "it, say --trust (from Python trust=True), or name the recipe file that it began with, where that "
                     "lies outside the folders of runs and sweeps")


def _module(where: str, name: str, code: Code) -> Any:
    """The module, imported from the folder or, where it is not there, from Python's path."""
    with _lock:
        _folders.add(code.folder)
        return _import(where, name, code)


def _import(where: str, name: str, code: Code) -> Any:
    import importlib
    from importlib.machinery import PathFinder

    importlib.invalidate_caches()  # the file may be a moment old
    top = name.partition(".")[0]
    spec, known = PathFinder.find_spec(top, [code.folder]), sys.modules.get(top)
    there, here = getattr(known, "__file__", None), spec.origin if spec else None
    if known is not None and here and (there is None or os.path.realpath(there) != os.path.realpath(here)):
        raise UsageError(f"{where} is in {here}, but this Python has another module {top} already, "
                         f"{there or 'which has no file'}; give yours another name")
    if name not in _imported:  # known before it runs, so that an error in it is known as its own
        _imported[name] = _sources(name, Path(code.folder))
    try:
        with _first_in_path(code.folder), blamed(f"{where}: {name} cannot be imported: "):
            module = importlib.import_module(name)
    except ImportError as error:
        del _imported[name]
        if isinstance(error, ModuleNotFoundError) and error.name in _prefixes(name):
            raise UsageError(f"{where}: there is no module {error.name} in {code.folder} or on Python's path; put it "
                             "beside the recipe, or its folder into PYTHONPATH") from error
        raise OwnError(f"{where}: {name} cannot be imported: {error} (it is on Python's path)") from error
    except BaseException:
        del _imported[name]
        raise
    file = getattr(module, "__file__", None)
    if not _imported[name][0] and file:  # from Python's path
        parents = len(name.split(".")) - (Path(file).name != "__init__.py")
        _imported[name] = _sources(name, Path(file).parents[max(parents, 0)], top) if Path(file).suffix == ".py" else (
            [Path(file)], _digest([Path(file)], Path(file).parent))
    return module


@contextlib.contextmanager
def _first_in_path(folder: str) -> Iterator[None]:
    """Inside the block modules are looked for in the folder first, as they are beside a script; afterwards last.

    Nothing is compiled into it: what was compiled a moment ago could hide what has changed since.
    """
    compiled, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:  # for what own code imports only when it is called
            sys.path.append(folder)
        sys.dont_write_bytecode = compiled


# ---- what the code is ----------------------------------------------------------------------------------------------


def environment(names: Collection[str], code: Code | None, out: Path | None) -> dict[str, Any]:
    """What a record tells of own code with these names: its digests, and from the run's folder the way to its own.

    The way is told from folder to folder, so that both can be moved; it is left out where there is none.
    """
    if not names or code is None:
        return {}
    told: dict[str, Any] = {"own_code": digests(names, code)}
    if out is not None:
        with contextlib.suppress(ValueError):  # on another drive
            told["own_folder"] = Path(os.path.relpath(code.folder, out.resolve())).as_posix()
    return told


def trusted(record: Mapping[str, Any], folder: Path) -> Code:
    """The leave to import the own code that the record in a run's folder names; who says --trust gives it."""
    return Code(str((folder / str(record.get("environment", {}).get("own_folder", "."))).resolve()))


def digests(names: Iterable[str], code: Code | None) -> dict[str, str]:
    """By module of these names (module:object), in order: sha256 of its sources, 16 hexadecimal digits.

    Its sources are its file and what that imports from the same folder (of a module from Python's path, from its own
    package), and so on. They are those of its import in this process; what has been written since does not run here.

    Raises Untrusted where one is not imported yet and there is no leave to; as find().
    """
    found = {}
    for name in names:
        module = name.partition(":")[0]
        if module not in _imported:
            if code is None:
                raise untrusted(module, name)
            _module(module, module, code)
        found[module] = _imported[module][1]
    return found


def _sources(name: str, root: Path, within: str = "") -> tuple[list[Path], str]:
    """The files below `root` that module `name` is made of, and their digest; `within`: one package there alone."""
    found, todo = dict[str, Path](), [name]
    while todo:
        module = todo.pop()
        file = _file(module, root)
        if module in found or file is None or (within and module.partition(".")[0] != within):
            continue
        found[module] = file
        todo += [each for imported in _imports(module, file) for each in _prefixes(imported)]
    paths = sorted(found.values())
    return paths, _digest(paths, root)


def _digest(paths: Iterable[Path], root: Path) -> str:
    sha = hashlib.sha256()
    for path in paths:
        content = path.read_bytes().replace(b"\r\n", b"\n")
        sha.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return sha.hexdigest()[:16]


def _file(module: str, root: Path) -> Path | None:
    place = root.joinpath(*module.split("."))
    return next((path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file()), None)


def _prefixes(module: str) -> list[str]:
    """'a.b.c' imports a and a.b, too."""
    words = module.split(".")
    return [".".join(words[:count]) for count in range(1, len(words) + 1)]


def _imports(module: str, file: Path) -> Iterator[str]:
    """The modules that a source may import, by their whole names."""
    import ast

    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # to be told of when it is imported
        return
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            yield from ([whole] if whole else [])
            yield from (f"{whole}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")


# ---- what goes wrong in it -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def blamed(before: str = "") -> Iterator[None]:
    """Inside the block an error that own code raises, or lets pass, becomes an OwnError with file and line.

    Others, those of memory, and those that an OwnError tells of already, pass. before: words before the sentence.
    """
    try:
        yield
    except (OwnError, OutOfMemory, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        place = _place(error)
        if place is None:
            raise
        what = str(error) if isinstance(error, MinimaskError) else f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, SyntaxError):
            what = f"{type(error).__name__}: {error.msg}"
        raise OwnError(f"{before}{place}: {what} (in your own code)") from error


def _place(error: BaseException) -> str | None:
    """File, line and function of own code that an error comes from, the innermost; None where it passed none."""
    found, frame = None, error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if _is_own_file(file):
            name = frame.tb_frame.f_code.co_name
            found = f"{_short(file)}, line {frame.tb_lineno}" + (f", in {name}" if name != "<module>" else "")
        elif found is None and (code := _pullback(frame.tb_frame)) is not None and _is_own_file(code.co_filename):
            found = f"{_short(code.co_filename)}, line {code.co_firstlineno}"
        frame = frame.tb_next
    if isinstance(error, SyntaxError) and error.filename and _is_own_file(error.filename):
        found = f"{_short(error.filename)}, line {error.lineno}"
    return found


def _pullback(frame: FrameType) -> CodeType | None:
    """The code of the pullback that the engine has called in this frame, if it has: what it gave may be wrong."""
    engine = frame.f_globals.get("__name__") == f"{__package__}.engine"  # a floor above
    node = frame.f_locals.get("node") if engine and frame.f_code.co_name == "_pull" else None
    return getattr(getattr(node, "pullback", None), "__code__", None)


def _is_own_file(file: str) -> bool:
    """Whether a source is own code: one that was imported by name, or another one below its folder."""
    if file.startswith("<") or (not _imported and not _folders):  # "<string>": of what was made by exec, no file
        return False
    real = Path(os.path.realpath(file))
    if any(real == Path(os.path.realpath(path)) for paths, _ in _imported.values() for path in paths):
        return True
    others = "site-packages" in real.parts or {Path(__file__).parent, _LIBRARY} & set(real.parents)
    return not others and any(Path(os.path.realpath(folder)) in real.parents for folder in _folders)


def _short(file: str) -> str:
    """The path as it is seen from here, where that is shorter."""
    with contextlib.suppress(ValueError):  # on another drive
        return min(file, os.path.relpath(file), key=len)
    return file

