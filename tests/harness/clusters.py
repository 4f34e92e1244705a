"""Executors on other machines, as the guide starts them: Dask's and MPI's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DASK = [sys.executable, "-m", "dask"]


@contextmanager
def dask_client(folder: Path) -> Iterator[Any]:
    """A client of a scheduler and two worker processes; skips where Dask is missing."""
    distributed = pytest.importorskip("dask.distributed")
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    commands = [
        [*DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", *common],
        *[[*DASK, "worker", "--nthreads", "1", *common] for _ in range(2)],
    ]
    # The workers import the tests' modules.
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            c, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
        )
        for c in commands
    ]
    try:
        with distributed.Client(scheduler_file=str(file), timeout=600) as client:
            client.wait_for_workers(2, timeout=600)
            yield client
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(60)


def run_by_mpi(script: str, folder: Path) -> str:
    """What a script prints that ``mpiexec`` runs with two workers; skips where MPI is missing."""
    pytest.importorskip("mpi4py.futures")
    if shutil.which("mpiexec") is None:
        pytest.skip("MPI's mpiexec is missing")
    file = folder / "script.py"
    file.write_text(script)
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    root["OMPI_MCA_rmaps_base_oversubscribe"] = "1"  # also on fewer cores
    result = subprocess.run(
        ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures", str(file)],
        env={**os.environ, **root, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
