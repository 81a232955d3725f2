"""Verifies all programs with a seeded fault, and all sound ones; prints the tables.

    python -m tests.verify [faults | sound] [NAME ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tfdist.diagnose.verify.orders import Asked
from tfdist.diagnose.verify.verify_command import verify


def main(arguments: list[str]) -> int:
    from tests.verify.seeded_fault import FAULTS

    names = arguments[1:] or list(FAULTS)
    asked = [Asked(("-m", "tests.verify.seeded_fault", name), steps=6) for name in names]
    began = time.monotonic()
    keep = Path(tempfile.mkdtemp(prefix="verify-", dir="/tmp/verify-scratch"))
    verdicts = verify(asked, keep)
    for name, verdict in zip(names, verdicts, strict=True):
        kinds = [one.kind for one in verdict.causes]
        good = kinds[:1] == [FAULTS[name].cause]
        print(f"{'ok ' if good else 'BAD'} {name}: {verdict.found} {kinds} {verdict.seconds:.0f} s")
        if not good:
            print("    " + verdict.text().replace("\n", "\n    "))
    print(keep, f"{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
