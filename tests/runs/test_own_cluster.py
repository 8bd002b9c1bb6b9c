"""A sweep of own code on a real Dask worker, which imports it from the folder that the sweep names."""

import json

import pytest
from test_cluster import dask, scheduler, worker  # noqa: F401
from test_own_runs import marks, project  # noqa: F401

from minimask import runs
from minimask.__main__ import main

pytestmark = [pytest.mark.once, pytest.mark.slow]


def test_a_dask_worker_imports_it(dask, project, tmp_path, capsys):  # noqa: F811
    folder, module = project
    with scheduler(tmp_path) as address, worker(address, tmp_path, "a"):
        assert main(["sweep", str(folder / "my.toml"), "--scheduler", address, "--out", str(tmp_path / "out")]) == 0
    record = runs.read_record(tmp_path / "out/mine-seed0")
    assert runs.finished(record) and list(record["environment"]["own_code"]) == [module]
    assert json.loads((tmp_path / "out/sweep.json").read_text())["recipes"]["mine"]["model"] == f"{module}:net"
    assert marks(folder) == 2  # here, for its digest, and in the worker
