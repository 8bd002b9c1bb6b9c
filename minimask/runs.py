"""A run's folder: training a recipe into it, and reading it back.

A folder holds ``record.json`` (rewritten after every epoch), ``network.npz`` (every array of the net; arrays
only, nothing pickled) and, where matplotlib is installed, ``masks.png`` and ``training.png``. Files are
written beside their place and renamed into it, so none is ever half there.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from . import plot, recipes, train
from .backend import MinimaskError, UsageError
from .data import Dataset
from .nn import Sequential

FILES = ("record.json", "network.npz", "masks.png", "training.png", "dense.json")


def run(recipe: recipes.Recipe, dataset: Dataset, seed: int, out: str | Path | None = None, overwrite: bool = False,
        backend: str = "numpy", progress: train.Progress | None = None) -> tuple[Sequential, dict[str, Any]]:
    """Trains a recipe from a seed; returns the net and its record, and keeps both in folder `out` if one is given.

    Raises:
        UsageError: `out` holds a run already and `overwrite` is not set, or cannot be written to.
        TrainingError, KeyboardInterrupt: training was cut short; record and net of the last whole epoch are in `out`.
    """
    if seed < 0:
        raise UsageError(f"seed {seed}: give a whole number, 0 or more")
    rng = np.random.default_rng(seed)
    net = recipe.build(dataset, rng, backend)
    optimizer = recipe.optimizer(net, dataset)
    record = train.new_record(recipe.as_dict(), int(seed), dataset.name, net)
    folder = claim(out, overwrite) if out is not None else None
    if folder:
        write_record(folder, record)
    try:
        train.fit(net, dataset, optimizer, recipe.epochs, rng, recipe.batch, record, progress,
                  on_epoch=lambda record: write_record(folder, record) if folder else None)
    finally:
        if folder:
            write_record(folder, record)
            write_network(folder, net)
    return net, record


def claim(out: str | Path, overwrite: bool) -> Path:
    """Makes folder `out` ready for a new run; the files of an old one go only with `overwrite`, others always stay."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = [folder / name for name in FILES if (folder / name).exists()]
        if present and not overwrite:
            raise UsageError(f"{folder} holds a run already ({', '.join(p.name for p in present)}): "
                             "give another folder with --out, or --overwrite to replace it")
        (folder / ".minimask").touch()  # can it be written to? better to know before an hour of training
        (folder / ".minimask").unlink()
        for path in present:
            path.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder} is a file or lies under one; give a folder with --out") from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to ({error.strerror}); give another folder with --out") from error
    return folder


def write(path: Path, content: bytes) -> None:
    """Writes a file in one go: a temporary one beside it, then a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise MinimaskError(f"{path} cannot be written ({error.strerror}); what was there is untouched") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_record(folder: Path, record: dict[str, Any], name: str = "record.json") -> None:
    """The record as JSON, a line per epoch; NaN is refused, so that every reader of JSON can take it."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
             for key, value in record.items() if key != "epochs"]
    epochs = ",\n  ".join(json.dumps(entry, allow_nan=False) for entry in record["epochs"])
    write(folder / name, ("{" + ",\n ".join([*lines, f'"epochs": [\n  {epochs}]']) + "}\n").encode())


def write_network(folder: Path, net: Sequential) -> None:
    """Every array of the net, by name, as an .npz of plain arrays."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = net.arrays()
    np.savez_compressed(buffer, **arrays)
    write(folder / "network.npz", buffer.getvalue())


def write_pictures(folder: Path, net: Sequential, record: dict[str, Any], dataset: Dataset) -> list[str]:
    """Draws masks.png (where the first layer is dense and masked) and training.png; returns the files' names.

    Raises plot.MissingMatplotlib where that is so, MinimaskError where a file cannot be written.
    """
    names = []
    masks = net.masks()
    flat = bool(masks) and next(iter(masks.values())).ndim == 2  # a first layer over pixels
    for name, figure in (("masks.png", plot.masks(net, dataset) if flat else None),
                         ("training.png", plot.training(record))):
        if figure is not None:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            write(folder / name, buffer.getvalue())
            names.append(name)
    return names


def load(folder: str | Path, dataset: Dataset, backend: str = "numpy") -> tuple[Sequential, dict[str, Any]]:
    """The trained net and the record in a run's folder; `dataset` (or one of the same shape) sizes the net.

    The net lives on `backend` ('numpy', 'cupy' or 'strict'), wherever it was trained: files hold plain arrays.

    Raises:
        MinimaskError: a file is missing or damaged, or the arrays are not those of the record's recipe.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "record.json").read_text())
        recipe = recipes.Recipe(**record["recipe"])
        with np.load(folder / "network.npz", allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise MinimaskError(f"{folder} holds no whole run: {error}; needed are record.json and network.npz "
                            "as `minimask train` writes them") from error
    net = recipe.build(dataset, np.random.default_rng(0), backend)
    net.load(arrays)
    return net, record
