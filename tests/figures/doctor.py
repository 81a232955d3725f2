"""What `tfdist doctor` says of set-ups that are broken: `python -m tests.figures.doctor`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tests.diagnose.doctor.broken import BROKEN, made

RESULTS = Path(__file__).parent / "results" / "doctor.md"
HEAD = """# What the doctor says

Each set-up was really made on one machine (hosts are network namespaces, the full disk is a small
file system; the clock alone is pretended), and `tfdist doctor` run in it:
`python -m tests.figures.doctor`.

| broken | level | check | what it says | what to do |
|---|---|---|---|---|
"""


def _plain(cell: str) -> str:
    """A cell without the places of the machine that it was made on."""
    bare = re.sub(r"/\S*/(?=spec\.json|python )", "", cell.replace(sys.executable, "python"))
    return bare.replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the table")
    text = HEAD
    for broken in BROKEN:
        found = broken.findings(made(broken))
        assert found, broken.name
        cells = [broken.name, *(found[0][key] for key in ("level", "check", "text", "todo"))]
        row = " | ".join(_plain(cell) for cell in cells)
        print(row, flush=True)
        text += f"| {row} |\n"
    if parser.parse_args().write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
