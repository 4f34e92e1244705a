"""Every ONNX file of the shared data is read and agrees, or is refused by operator."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.paths import data_folder, shared_data
from tests.readers.onnx_coverage import files, try_file

NAMES = [path.relative_to(data_folder()).as_posix() for path in files()]
REFUSED = {
    "omlt_models/maxpool_2d.onnx": "refused: MaxPool",
}


@pytest.mark.parametrize("name", NAMES or ["omlt_models/gemm.onnx"])
def test_file(name):
    result, *_, worst = try_file(shared_data(name))
    if name in REFUSED:
        assert result == REFUSED[name]
    else:
        assert result.startswith("read") and worst < 1e-5
