"""Random estimators of scikit-learn, of all kinds that are read, against themselves."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("pandas")

from tests.readers.random_sklearn import NotFittedError, Random


def agree(seeds: range) -> int:
    """How many of the seeds could be fitted; all of those agree to 1e-12."""
    count = 0
    for seed in seeds:
        try:
            made = Random(seed)
        except NotFittedError:
            continue
        difference, size = made.compare()
        assert difference <= 1e-12 * max(1.0, size), f"seed {seed}: {made.model}"
        count += 1
    return count


def test_random_estimators():
    assert agree(range(25)) >= 20


@pytest.mark.slow
def test_two_thousand_random_estimators():
    assert agree(range(10_000, 12_200)) >= 2000
