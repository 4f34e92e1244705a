"""The example of linear regions finds what its text says."""

from __future__ import annotations

import pytest

from tests.test_examples import assert_picture, load


def test_linear_regions(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    found = load("linear_regions").main(["--output", str(tmp_path)])
    plain, smooth = found["regions"]
    assert smooth < plain <= found["bound"][0] and smooth <= found["bound"][1]
    assert found["score"][0] > 0.98 > found["score"][1] > 0.7
    assert all(line <= r for line, r in zip(found["line"], found["regions"]))
    assert_picture(tmp_path / "linear_regions.png")
