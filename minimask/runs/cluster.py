"""A Dask cluster as the place where a sweep's runs are worked off (extra ``cluster``)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import MinimaskError

#: Seconds that the scheduler, and then a first worker, have to answer.
TIMEOUT = 10.0


@contextlib.contextmanager
def connected(address: str, folder: Path) -> Iterator[Any]:
    """A ``distributed.Client`` of the scheduler at `address`, whose workers have this minimask and see `folder`.

    Raises MinimaskError: dask is not installed, nobody answers within TIMEOUT, there is no worker, or one has another
    minimask, or none, or does not see sweep.json in the folder.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise MinimaskError("a sweep on a cluster needs Dask: pip install distributed") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it becomes a sentence of ours
    try:
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise MinimaskError(f"no Dask scheduler answers at {address} within {TIMEOUT:g} s ({error}); start one with "
                            "`dask scheduler`, or leave --scheduler out to work on this machine") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError as error:
            raise MinimaskError(f"the scheduler at {address} has no worker; start some with `dask worker "
                                f"{address}`") from error
        for worker, seen in client.run(_look, str(folder), on_error="return").items():
            if seen != (__version__, True):
                what = (f"answers {type(seen).__name__}: {seen}" if isinstance(seen, Exception) else
                        f"does not see {folder}" if seen[0] == __version__ else
                        f"has minimask {seen[0]}, not {__version__}")
                raise MinimaskError(f"the worker at {worker} {what}; every worker needs this minimask and must see the "
                                    "folders of --out and --data under the same names")
        yield client


def _look(folder: str) -> tuple[str, bool]:
    """What a worker has: its minimask, and whether it sees the sweep's folder."""
    from . import sweep

    return __version__, (Path(folder) / sweep.INDEX).exists()
