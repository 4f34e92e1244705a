"""No solver of the process changes what another one does, whatever the threads."""

import re
import subprocess
import sys

import pytest

pytest.importorskip("highspy")


def in_turn(threads: str, steps: str, seed: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.tools_in_turn", threads, steps, str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 wrong" in done.stdout
    return done.stdout


@pytest.mark.parametrize("threads", ["-", "1", "2"])
def test_a_drawn_order(threads):
    out = in_turn(threads, "15", seed=int(threads.replace("-", "0")))
    assert "optimum" in out


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["-", "1", "2"])
def test_each_pair_in_order(threads):
    out = in_turn(threads, "all")
    # The three processes, and each tool in them, found the same optimum.
    optimum = float(re.search(r"'optimum': ([-.\de]+)", out).group(1))
    assert optimum == pytest.approx(OPTIMUM, abs=1e-4)


#: Of the model in tools_in_turn; appsi_highs and scip agree on it.
OPTIMUM = -1.78916753
