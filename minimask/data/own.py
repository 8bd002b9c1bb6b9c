"""A data set of one's own from arrays, an .npz or a CSV file; folder.py makes one of a folder of pictures.

Each is split into a part to train on and one that is held out, class by class and by a seed: the same set every time.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..fields import brief, is_line
from ..files import to_read
from .files import DataError
from .preprocess import refuse_no_numbers
from .sets import Dataset

#: The share that is held out unless another is given.
HELD_OUT = 0.2
#: Names of the arrays in an .npz that hold what; one of each row, and nothing else, may be there.
PARTS = {"train_images": ("x_train", "train_images", "images", "x"), "train_labels": ("y_train", "train_labels",
         "labels", "y"), "test_images": ("x_test", "test_images"), "test_labels": ("y_test", "test_labels"),
         "classes": ("classes", "class_names")}
DELIMITERS = ",;\t"
#: What stands in tables for a number that is missing, or is none.
MISSING = ("", "?", "-", ".", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "nil", "inf", "-inf", "infinity",
           "-infinity")
#: Characters of a first line that are looked at for what is between columns.
MOST_LINE = 1 << 20

Labelled = tuple[np.ndarray, np.ndarray]


def from_arrays(images: Any, labels: Any, classes: Sequence[str] | None = None, test: tuple[Any, Any] | None = None,
                held_out: float = HELD_OUT, seed: int = 0, preprocess: Any = None, name: str = "mine",
                path: str = "") -> Dataset:
    """A data set from arrays: images (n, h, w, c), (n, h, w) where they are grey, or a table (n, columns); labels (n,).

    Rows of a table become images of one row: (n, 1, columns, 1).

    Args:
        labels: whole numbers or texts. classes: their names, where labels are 0..len(classes)-1; unless given every
            label that there is makes a class, in order, and its text is the name. Or targets of another loss than the
            usual one (:mod:`minimask.losses`): floats (n,), and numbers (n, k), whose `classes` are the names of the
            net's outputs, one for each number unless given.
        test: images and labels to hold out. Without them a share `held_out` of every class, at least one image of each,
            is drawn by `seed`.
        preprocess: as in :class:`minimask.data.Dataset`. name, path: of the set.

    Raises:
        DataError: shapes that do not fit, NaN or infinity, a class of one image where some are to be held out.
        UsageError: a share that is not between 0 and 1.
    """
    where = f"data set {name!r}"
    parts = [_four_axes(images, where), *([_four_axes(test[0], f"{where}, test part")] if test else [])]
    values = [_flat(labels, where), *([_flat(test[1], f"{where}, test part")] if test else [])]
    for part, some in zip(parts, values):
        if len(part) != len(some) or not len(part):
            raise DataError(f"{where}: {len(part)} images and {len(some)} labels; needed are as many, and some")
    if _are_targets(values[0]):
        numbered = values
        names = tuple(classes or [f"output {i + 1}" for i in range(values[0].size // len(values[0]))])
    else:
        numbered, names = _numbered(values, classes, where)
    if test is None:
        kept, held = _drawn(len(numbered[0]), held_out, seed, where) if _are_targets(numbered[0]) else split(
            numbered[0], names, held_out, seed, where)
        return Dataset(name, parts[0][kept], numbered[0][kept], parts[0][held], numbered[0][held], names,
                       preprocess=preprocess, path=path)
    return Dataset(name, parts[0], numbered[0], parts[1], numbered[1], names, preprocess=preprocess, path=path)


def _drawn(count: int, held_out: float, seed: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The places to train on and those held out, a share of `count`, where there are no classes."""
    _refuse_share(held_out, seed, where)
    if count < 2:
        raise DataError(f"{where}: has {count} sample, but 2 are needed, one to train and one to hold out")
    order, held = np.random.default_rng(seed).permutation(count), min(max(1, round(count * held_out)), count - 1)
    return order[held:], order[:held]


def _refuse_share(held_out: float, seed: int, where: str) -> None:
    if seed < 0:
        raise UsageError(f"{where}: seed is {seed}, but must be a whole number, 0 or more")
    if not 0 < held_out < 1:
        raise UsageError(f"{where}: held_out is {held_out}, but must be a share between 0 and 1, such as {HELD_OUT}")


def split(labels: np.ndarray, classes: Sequence[str], held_out: float, seed: int,
          where: str) -> tuple[np.ndarray, np.ndarray]:
    """The places (of labels (n,)) to train on and those held out: of every class a share, at least one of each.

    Both in an order drawn by `seed`, so that a part of either has all classes, too.

    Raises DataError, in words that begin with `where`, for a class of fewer than two images.
    """
    _refuse_share(held_out, seed, where)
    rng, kept, held = np.random.default_rng(seed), [], []
    for label, name in enumerate(classes):
        places = np.flatnonzero(labels == label)
        if len(places) < 2:
            raise DataError(f"{where}: class {name!r} has {len(places) or 'no'} image{'s' * (not len(places))}, but 2 "
                            "are needed, one to train and one to hold out: add some, or leave the class out")
        places = rng.permutation(places)
        count = min(max(1, round(len(places) * held_out)), len(places) - 1)
        held.append(places[:count])
        kept.append(places[count:])
    return rng.permutation(np.concatenate(kept)), rng.permutation(np.concatenate(held))


def _four_axes(images: Any, where: str) -> np.ndarray:
    """Images (n, h, w, c), of finite numbers; DataError for what they cannot be."""
    refuse_no_numbers(images, where)
    array = np.asarray(images)
    if array.ndim == 2:
        array = array[:, None, :, None]
    elif array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or not array.size:
        raise DataError(f"{where}: images are {np.shape(images)}; needed are (n, height, width, channels), (n, height, "
                        "width), or a table (n, columns)")
    if array.shape[1] in (1, 3) and array.shape[2] == array.shape[3] > 4:
        raise DataError(f"{where}: images are {array.shape}, whose channels seem to come first; they come last here: "
                        "give images.transpose(0, 2, 3, 1)")
    if array.dtype.kind == "f":
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            raise DataError(f"{where}: image {finite.argmin()} holds NaN or infinity: mend it, or leave it out")
    return array.astype(np.uint8) if array.dtype == bool else array


def _are_targets(labels: np.ndarray) -> bool:
    """Whether they are numbers to be met, not the numbers or names of classes."""
    return labels.ndim == 2 or labels.dtype.kind == "f"


def _flat(labels: Any, where: str) -> np.ndarray:
    """Labels (n,); of (n, 1), too. Targets stay (n, k)."""
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.size and (array.ndim, array.dtype.kind) in ((1, "f"), (2, "f"), (2, "i"), (2, "u")):
        return array
    if array.ndim != 1 or array.dtype.kind not in "biuU":
        raise DataError(f"{where}: labels are {array.dtype} {array.shape}; needed are whole numbers or texts, (n,); or "
                        "for another loss numbers, (n, k)")
    return array


def _numbered(parts: Sequence[np.ndarray], classes: Sequence[str] | None,
              where: str) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Labels as numbers from 0, and the names of the classes."""
    if classes is not None:
        if parts[0].dtype.kind == "U":
            raise DataError(f"{where}: labels are texts, so they name the classes themselves; leave classes out")
        names = tuple(map(str, classes))
        for part in parts:
            if part.min() < 0 or part.max() >= len(names):
                raise DataError(f"{where}: labels from {part.min()} to {part.max()}, but {len(names)} classes; labels "
                                f"must lie in 0..{len(names) - 1}")
        return [part.astype(np.int64) for part in parts], _named(names, where)
    known = np.unique(parts[0])
    if known.dtype.kind == "U" and all(_is_whole(text) for text in known):
        known = known[np.argsort([int(text) for text in known], kind="stable")]
    if known.dtype.kind == "U":
        _refuse_one_number_twice(known.tolist(), where)
    names, at = tuple(map(str, known.tolist())), {value: number for number, value in enumerate(known.tolist())}
    for part in parts[1:]:
        strange = next((value for value in part.tolist() if value not in at), None)
        if strange is not None:
            raise DataError(f"{where}: class {brief(strange)} is held out, but there is none to train on")
    return [np.array([at[value] for value in part.tolist()], np.int64) for part in parts], _named(names, where)


def _refuse_one_number_twice(texts: Sequence[str], where: str) -> None:
    """DataError for two classes that are one number in two spellings, such as 1 and 1.0."""
    found: dict[float, str] = {}
    for text in texts:
        if _is_number(text) and found.setdefault(float(text), text) != text:
            raise DataError(f"{where}: classes {found[float(text)]!r} and {brief(text)} are one number, written in two "
                            "ways; write it in one, or give one of them a name")


def _is_whole(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19


def _named(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The names of classes; DataError where they are not two or more, or cannot be shown."""
    if len(names) < 2:
        raise DataError(f"{where}: there is one class ({brief(names[0]) if names else 'none'}); needed are 2 or more")
    strange = next((name for name in names if not name or not is_line(name)), None)
    if strange is not None:
        raise DataError(f"{where}: a class is called {brief(strange)}; needed is one printable line")
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DataError(f"{where}: two classes are called {brief(twice)}; give each a name of its own")
    return names


# ---- .npz ------------------------------------------------------------------------------------------------------------


def from_npz(path: str | Path, held_out: float = HELD_OUT, seed: int = 0, preprocess: Any = None,
             name: str | None = None) -> Dataset:
    """A data set from the arrays in an .npz: images and labels, or x_train, y_train, x_test and y_test; and classes.

    See PARTS for the names that arrays may have; otherwise as :func:`from_arrays`. Nothing is unpickled.

    Raises:
        UsageError: there is no such file. DataError: it is damaged, lacks an array, or holds another.
    """
    found = _npz_arrays(Path(path))
    parts: dict[str, np.ndarray] = {}
    for part, names in PARTS.items():
        there = [each for each in names if each in found]
        if len(there) > 1:
            raise DataError(f"{path} holds {' and '.join(there)}, which are {part.replace('_', ' ')} both; keep one")
        if there:
            parts[part] = found.pop(there[0])
    if found:
        raise DataError(f"{path} holds {', '.join(sorted(found))[:200]}; known are "
                        f"{', '.join(each for names in PARTS.values() for each in names)}")
    for part in ("train_images", "train_labels"):
        if part not in parts:
            raise DataError(f"{path} holds no {' or '.join(PARTS[part])}")
    if ("test_images" in parts) != ("test_labels" in parts):
        raise DataError(f"{path} holds test images without test labels, or the other way round; give both or none")
    test = (parts["test_images"], parts["test_labels"]) if "test_images" in parts else None
    classes = [str(each) for each in parts["classes"].tolist()] if "classes" in parts else None
    return from_arrays(parts["train_images"], parts["train_labels"], classes, test, held_out, seed, preprocess,
                       name or f"npz:{path}", os.path.abspath(path))


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an .npz, by name."""
    import zipfile

    with reading(path, "an .npz file as numpy.savez writes it"), to_read(path) as file, \
            zipfile.ZipFile(file) as archive:
        return {info.filename.removesuffix(".npy"): _npz_array(archive, info) for info in archive.infolist()}


def _npz_array(archive: Any, info: Any) -> np.ndarray:
    """The array in a member of an .npz: numbers or texts, whose header promises no more than the member has."""
    from numpy.lib import format as layout

    readers: dict[tuple[int, int], Any] = {(1, 0): layout.read_array_header_1_0, (2, 0): layout.read_array_header_2_0}
    with archive.open(info) as member:
        version = layout.read_magic(member)
        if version not in readers:
            raise ValueError(f"{info.filename} is of version {version[0]}.{version[1]}")
        shape, columns_first, dtype = readers[version](member)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds objects, which are never unpickled")
        size = math.prod(shape) * dtype.itemsize
        content = member.read(size) if member.tell() + size == info.file_size else b""
        if len(content) != size or member.read(1):
            raise ValueError(f"{info.filename} promises {size:,} bytes and holds others")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """What reading a file of some kind raises becomes a sentence; UsageError where there is none."""
    import zipfile
    import zlib

    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"there is no {path}; give the path of {kind}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError,
            SyntaxError, csv.Error) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} is not {kind}, or damaged ({reason:.200})") from error


# ---- CSV -------------------------------------------------------------------------------------------------------------


def from_csv(path: str | Path, label: str | int | None = None, delimiter: str | None = None, held_out: float = HELD_OUT,
             seed: int = 0, preprocess: Any = None, name: str | None = None, numbers: bool = False) -> Dataset:
    """A data set from a table in a CSV file: a line per row, numbers in its columns and a class in one of them.

    Args:
        label: the column of the class, by its name in the first line or by its number from 1; the last one unless
            given.
        delimiter: between columns; of comma, semicolon and tab the one that the first line has most, unless given.
        held_out, seed, preprocess: as in :func:`from_arrays`, which makes rows images (1, columns, 1).
        numbers: that column holds no classes but numbers to be met, for a loss such as 'mse'.

    The first line may hold names: it does where one of its columns beside the class is no number. A first column
    without a name that numbers the rows, as pandas writes it, is left out, and that is said.

    Raises:
        UsageError: there is no such file or column. DataError: it is damaged, or a line has too few or too many
            columns, or one that is no number; the sentence gives file, line and column. Two classes are one number.
    """
    names, table, labels = _csv_rows(Path(path), None if label is None else str(label), delimiter)
    if numbers:
        strange = next((text for text in labels.tolist() if not _is_number(text)), None)
        if strange is not None:
            raise DataError(f"{path}: column {names!r} holds {brief(strange)}, which is no number")
    try:
        return from_arrays(table, labels.astype(float) if numbers else labels, [names] if numbers else None, None,
                           held_out, seed, preprocess, name or f"csv:{path}",
                           os.path.abspath(path))
    except DataError as error:
        raise DataError(f"{path}: {error}; the class is taken from column {names!r}") from error


def _csv_rows(path: Path, label: str | None, delimiter: str | None) -> tuple[str, np.ndarray, np.ndarray]:
    """The name of the column of classes, the numbers (n, columns), the classes (n,) as texts."""
    lines = _csv_lines(path, delimiter)
    width = len(lines[0][1])
    if width < 2:
        raise DataError(f"{path}, line {lines[0][0]}: has one column; needed are numbers and a class; say with "
                        "delimiter what is between columns")
    place = _column(path, lines[0][1], label)
    names, lines = _header(path, lines, place)
    for number, values in lines:
        if len(values) != width:
            raise DataError(f"{path}, line {number}: has {len(values)} columns, but the first line has {width}")
    if place and width > 2:
        place -= _without_index(path, names, lines)
    labels = []
    for number, values in lines:
        labels.append(values.pop(place))
        if not labels[-1]:
            raise DataError(f"{path}, line {number}: has no class: column {names[place]!r} is empty")
    return names[place], _numbers(path, lines, [*names[:place], *names[place + 1:]]), np.array(labels)


def csv_numbers(path: str | Path, columns: int) -> np.ndarray:
    """The numbers in a CSV file without classes: (n, columns). UsageError, DataError: as of :func:`from_csv`."""
    lines = _csv_lines(Path(path), None)
    names, lines = _header(Path(path), lines, None)
    if all(len(values) == columns + 1 for _, values in lines):  # of a net that was trained with it nothing is left out
        _without_index(Path(path), names, lines)
    for number, values in lines:
        if len(values) != columns:
            more = "; leave out the class, which is to be told" * (len(values) == columns + 1)
            raise DataError(f"{path}, line {number}: has {len(values)} columns, but the net takes {columns}{more}")
    return _numbers(Path(path), lines, names)


Lines = list[tuple[int, list[str]]]


def _csv_lines(path: Path, delimiter: str | None) -> Lines:
    """The rows of a CSV file, each with the number of its line in the file; empty lines do not count."""
    if delimiter is not None and len(delimiter) != 1:
        raise UsageError(f"delimiter is {delimiter!r}, but must be one character")
    with reading(path, "a CSV file in UTF-8"), open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline(MOST_LINE)
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter or max(DELIMITERS, key=first.count))
        lines = [(rows.line_num, [field.strip() for field in row]) for row in rows if row]
    if not lines:
        raise DataError(f"{path} holds no line; needed are rows of numbers")
    return lines


def _header(path: Path, lines: Lines, place: int | None) -> tuple[list[str], Lines]:
    """The names of the columns, and the lines below: the first has names where a column of numbers there is none.

    A number that is missing is no name: among numbers, the line is one of data. place: of the column of classes, which
    are no numbers.
    """
    first = lines[0][1]
    beside = [text for at, text in enumerate(first) if at != place]
    names = [text for text in beside if not _is_number(text.replace(",", ".", 1))]
    if not names or (len(names) < len(beside) and all(text.lower() in MISSING for text in names)):
        return [str(at + 1) for at in range(len(first))], lines
    if len(lines) < 2:
        raise DataError(f"{path} holds a line of names and nothing else; needed are rows of numbers")
    return first, lines[1:]


def _without_index(path: Path, names: list[str], lines: Lines) -> bool:
    """Takes out the first column where it has no name among names and numbers the rows, as pandas writes its index.

    Says so aloud, for it would be learned from. Returns whether there was one.
    """
    index = [values[0] for _, values in lines]
    if names[0] or not all(map(_is_whole, index)) or len(set(index)) < len(index):
        return False
    warnings.warn(f"{path}: the first column has no name and numbers the rows, so it is left out; to learn from it, "
                  "give it a name", UserWarning, stacklevel=5)
    for values in (names, *(values for _, values in lines)):
        del values[0]
    return True


def _numbers(path: Path, lines: Lines, names: Sequence[str]) -> np.ndarray:
    """Rows of texts as numbers (n, columns), all finite; DataError names the line and the column of what is none."""
    table = np.empty((len(lines), len(names)))
    for row, (number, values) in enumerate(lines):
        try:
            table[row] = values
        except ValueError:
            _refuse_text(path, number, names, values)
    finite = np.isfinite(table).all(axis=1)
    if not finite.all():
        _refuse_text(path, lines[finite.argmin()][0], names, lines[finite.argmin()][1])
    return table


def _column(path: Path, first: Sequence[str], label: str | None) -> int:
    """The place of the column of classes, by its name or number."""
    if label is None:
        return len(first) - 1
    if first.count(label) == 1:
        return first.index(label)
    if _is_whole(label) and 1 <= int(label) <= len(first):
        return int(label) - 1
    raise UsageError(f"{path} has no column {label!r}: its first line is {', '.join(first)[:200]}; give the name of "
                     f"one, or a number from 1 to {len(first)}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _refuse_text(path: Path, line: int, names: Sequence[str], values: Sequence[str]) -> None:
    """DataError for the first of a line's values that is no finite number."""
    for name, text in zip(names, values):
        if not _is_number(text):
            hint = "; write a point for the comma" if _is_number(text.replace(",", ".", 1)) else ""
            raise DataError(f"{path}, line {line}: column {name!r} is {brief(text) if text else 'empty'}, but must be "
                            f"a finite number{hint}")
