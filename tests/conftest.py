"""Settings of every test run: one thread, few and repeatable hypothesis examples."""

from __future__ import annotations

import os
import signal

# Before NumPy and the frameworks start their thread pools.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

_common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# quick: the same examples in every run. ci: more of them. deep: fresh ones, many.
settings.register_profile("quick", max_examples=20, derandomize=True, **_common)
settings.register_profile("ci", max_examples=40, derandomize=True, **_common)
settings.register_profile("deep", max_examples=500, print_blob=True, **_common)
_profile = "ci" if os.environ.get("CI") else "quick"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", _profile))

#: Seconds that a slow test may take; the others have the limit in pyproject.toml.
SLOW_TIMEOUT = 3600


def pytest_addoption(parser):
    parser.addoption(
        "--slower",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="let the machine seem so many times slower: tests that depend on time fail",
    )


def pytest_configure(config):
    # A shell without job control starts what runs in the background (nohup, a container, a job of
    # CI) deaf to Ctrl-C; tests that press it would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--slower") != 1:
        from tests.harness.slower import pretend

        pretend(config.getoption("--slower"))


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))
