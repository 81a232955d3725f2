"""`python -m tfdist`: the same as the command `tfdist`."""

from __future__ import annotations

import sys

from tfdist.cli import main

if __name__ == "__main__":
    sys.exit(main())
