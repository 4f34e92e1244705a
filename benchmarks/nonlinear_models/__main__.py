"""``python -m nonlinear_models [KEY...]``: train the networks anew, say how well they fit."""

from __future__ import annotations

from wired_models.__main__ import main

import nonlinear_models

if __name__ == "__main__":
    main(nonlinear_models)
