"""Reading many damaged files in worker processes: no crash, no hang, no foreign error."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

#: Seconds that reading one damaged file may take, of the clock on the wall.
SECONDS = 20.0

#: What a worker imports before its memory is limited, by the suffix of its files.
_KERAS = ("pyomo_relu", "keras", "h5py", "pyomo_relu.readers.keras")
MODULES: dict[str, tuple[str, ...]] = {
    ".onnx": ("pyomo_relu", "onnx", "onnx.reference", "onnxruntime"),
    ".keras": _KERAS,
    ".h5": _KERAS,
    ".npz": ("pyomo_relu", "scipy.sparse"),
    ".vnnlib": ("pyomo_relu.verification",),
    ".gz": ("pyomo_relu.verification",),
}


class Worker:
    """A process of :mod:`tests.harness.reading_worker`; started anew after a crash."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.modules = modules
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "tests.harness.reading_worker"]
        self.process = subprocess.Popen(
            [*command, *self.modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=root,
        )
        assert self._line(300.0) == {"end": "ready"}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def read(self, path: Path) -> dict:
        """How the reading of a file ended: read, refused, or a fault."""
        if self.process is None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        found = self._line(SECONDS)
        if found["end"] == "fault" and found["why"].startswith("process"):
            self.stop()
        return found

    def _line(self, seconds: float) -> dict:
        """The next answer; a fault where none comes in time."""
        assert self.process is not None and self.process.stdout is not None
        end, text = time.monotonic() + seconds, b""
        while not text.endswith(b"\n"):
            left = end - time.monotonic()
            ready = select.select([self.process.stdout], [], [], max(left, 0.0))[0]
            if not ready:
                return {"end": "fault", "why": f"process: no answer in {seconds} s"}
            part = os.read(self.process.stdout.fileno(), 2**16)
            if not part:
                code = self.process.wait()
                return {"end": "fault", "why": f"process: it ended with {code}"}
            text += part
        return json.loads(text)


class Workers:
    """A worker for each set of modules, started when it is asked for."""

    def __init__(self) -> None:
        self.started: dict[tuple[str, ...], Worker] = {}

    def stop(self) -> None:
        for worker in self.started.values():
            worker.stop()

    def check(
        self, files: Iterable[tuple[object, bytes]], suffix: str, folder: Path
    ) -> Counter:
        """Read files and fail with a list of the faults.

        Parameters
        ----------
        files : iterable of (label, contents)
            The label says how the file can be made again.
        suffix : str
        folder : Path
            Where the files are written; those at fault stay there.

        Returns
        -------
        Counter
            How many were read and how many refused.
        """
        modules = MODULES[suffix]
        worker = self.started.setdefault(modules, Worker(modules))
        ends: Counter = Counter()
        faults = []
        for k, (label, contents) in enumerate(files):
            path = folder / f"file{k}{suffix}"
            path.write_bytes(contents)
            found = worker.read(path)
            ends[found["end"]] += 1
            if found["end"] == "fault":
                faults.append(f"{label}: {found['why']}: {found.get('error', '')}")
            else:
                path.unlink()
        total = sum(ends.values())
        assert not faults, f"{len(faults)} of {total} files:\n" + "\n".join(faults)
        return ends
