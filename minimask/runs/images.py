"""The data set of a run, found again, and the preprocessing that its images had.

A record describes a data set of one's own ("data"); what its preprocessing learned from the training images lies beside
it in ``preprocess.npz``, so that a net can be exported and used without them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, files, own
from ..checkpoint import fingerprint
from ..data import preprocess
from ..errors import MinimaskError, UsageError
from ..meter import Meter
from ..own import Code

#: The file with what a preprocessing has learned.
LEARNED = "preprocess.npz"


def keep(folder: Path, prepare: data.Preprocess) -> None:
    """Writes what a preprocessing has learned into a run's folder, where it has learned something."""
    if prepare.arrays:
        with files.atomically(folder / LEARNED) as file, zipfile.ZipFile(file, "w") as archive:
            files.write_arrays(archive, prepare.arrays)


def prepare_of(folder: str | Path, record: Mapping[str, Any], code: Code | None = None) -> data.Preprocess:
    """The preprocessing of a run: its record's, with what the folder holds of what it learned.

    Args:
        code: the leave to import own code; without it one of own code can be named, and not used.

    Raises MinimaskError where the file is missing, damaged or of another net.
    """
    described = record.get("data") or {}
    name, path = described.get("preprocess", preprocess.DEFAULT), Path(folder) / LEARNED
    arrays: dict[str, np.ndarray] = {}
    if path.exists():
        with files.opened(path) as (archive, size):
            members = files.members(archive, None, size)
            arrays = {member.removesuffix(".npy"): files.read_any_array(archive, info)
                      for member, info in members.items()}
        files.refuse_not_finite(path, arrays)
    found = None
    if code is not None and name not in data.PREPROCESSINGS and ":" in name:
        found = own.find(f"the preprocessing of {folder}", name, code)
    try:
        return preprocess.restored(name, arrays, described.get("input"), found)
    except ValueError as error:
        raise MinimaskError(f"{folder} holds no whole run: its preprocessing {name!r} {error}; needed is {LEARNED} as "
                            "`minimask train` writes it") from error


def dataset_of(folder: str | Path, record: Mapping[str, Any], place: str | Path | None = None,
               allow_unverified: bool = False, meter: Meter | None = None, code: Code | None = None) -> data.Dataset:
    """The data set that a run was trained on, with the preprocessing that its images had.

    Args:
        folder, record: of the run. place: the folder that data sets lie in (MINIMASK_DATA unless given); one's own is
            also looked for where it is said, and where it was.
        code: the leave to import own code, for a preprocessing that is some.

    Raises UsageError, DataError: it is not there, or has changed since.
    """
    settings, name = record["recipe"].get("dataset_settings", {}), record["dataset"]
    if name is None or (not record["recipe"] and name.removesuffix("-validation") not in data.OUTLINES
                        and not data.kind_of(name)):
        called = "data without a name" if name is None else repr(name)
        raise UsageError(f"{folder} was trained from Python on {called}, which no command finds: name the "
                         "data set, where it is in files, with --dataset (npz:FILE for example), or keep "
                         "the run with runs.save(net, record, DIR, dataset)")
    dataset = data.load(record["dataset"], place, allow_unverified, settings, meter=meter,
                        known=str(record["environment"].get("data") or ""))
    if described := record.get("data"):
        data.refuse_other(dataset, described, fingerprint(dataset)[:16], f"the run in {folder}")
    return replace(dataset, preprocess=prepare_of(folder, record, code))
