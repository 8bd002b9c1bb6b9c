"""A Dask cluster as the place where a sweep's runs are worked off (extra ``cluster``)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import MinimaskError, UsageError
from ..train import source_digest

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
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of it becomes a sentence of ours
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
        for worker, what in looked(client, folder, list(client.nthreads())).items():
            if what:
                raise MinimaskError(f"the worker at {worker} {what}; every worker needs this minimask and must see the "
                                    "folders of --out and --data under the same names")
        yield client


class Found:
    """The workers of a cluster that can do the work: those that join later are asked, too, before they count.

    Args:
        client: as connected() yields it. folder: the sweep's.
    """

    def __init__(self, client: Any, folder: Path):
        self.client, self.folder = client, folder
        self.wrong: dict[str, str] = {}  # by address: what is wrong with a worker, "" for nothing

    def threads(self) -> int:
        """How many runs they can work at, now; 0 where the scheduler does not answer any more."""
        try:
            there = self.client.nthreads()
        except (OSError, RuntimeError, ValueError):
            return 0
        self.wrong |= looked(self.client, self.folder, [address for address in there if address not in self.wrong])
        return sum(threads for address, threads in there.items() if not self.wrong[address])


def looked(client: Any, folder: Path, addresses: list[str]) -> dict[str, str]:
    """What is wrong with each of these workers, by address, in a sentence without its subject; "" for nothing."""
    if not addresses:
        return {}
    seen, found = client.run(_look, str(folder), workers=addresses, on_error="return"), dict[str, str]()
    for address in addresses:
        what = seen.get(address, MinimaskError("has left"))
        if isinstance(what, BaseException):
            found[address] = f"answers {type(what).__name__}: {what}"
        elif what[0] != __version__:
            found[address] = f"has minimask {what[0]}, not {__version__}"
        elif what[1] != source_digest():
            found[address] = (f"has another source of minimask {__version__} (digest {what[1]}, not {source_digest()}) "
                              "or was begun before it was changed")
        else:
            found[address] = "" if what[2] else f"does not see {folder}"
    return found


def refuse_address(address: str) -> None:
    """UsageError where no scheduler can have this address; MinimaskError where Dask is not installed."""
    try:
        from distributed.comm.addressing import parse_address, parse_host_port
        from distributed.comm.registry import get_backend
    except ImportError as error:
        raise MinimaskError("a sweep on a cluster needs Dask: pip install distributed") from error
    try:
        scheme, place = parse_address(address)
        get_backend(scheme)
        if scheme in ("tcp", "tls", "ws", "wss"):
            host, port = parse_host_port(place)
            if not host or not 0 < port < 1 << 16:
                raise ValueError(f"{place!r} is no HOST:PORT")
    except (ValueError, ImportError, RuntimeError) as error:
        raise UsageError(f"--scheduler {address} is no address of a Dask scheduler ({error}); it says its own when it "
                         "begins, such as tcp://host:8786") from error


def _look(folder: str) -> tuple[str, str | None, bool]:
    """What a worker has: version and source of its minimask, and whether it sees the sweep's folder."""
    from . import sweep

    return __version__, source_digest(), (Path(folder) / sweep.INDEX).exists()
