"""The page on changing a model runs as it stands."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.paths import ROOT

PAGE = ROOT / "docs" / "guide" / "changing.rst"


def test_the_page_runs(capsys):
    pytest.importorskip("pint")
    text = PAGE.read_text(encoding="utf8")
    scope: dict = {}
    for code in re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", text):
        exec(textwrap.dedent(code), scope)
    assert "4 blocks" in capsys.readouterr().out
