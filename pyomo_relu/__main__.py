"""``python -m pyomo_relu COMMAND``; see :mod:`pyomo_relu.cli`."""

import sys

from pyomo_relu.cli import main

if __name__ == "__main__":
    sys.exit(main())
