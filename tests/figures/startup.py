"""Milliseconds to import tfdist and to show its help: medians of 15 processes.

python -m tests.figures.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import tfdist'": ["-c", "import tfdist"],
    "tfdist --help": ["-m", "tfdist", "--help"],
    "tfdist run --help": ["-m", "tfdist", "run", "--help"],
}


def main() -> None:
    """Times each command and prints the table."""
    print("| command | median, ms | fastest, ms |\n|---|---|---|")
    for name, arguments in _COMMANDS.items():
        times = []
        for _ in range(15):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(1e3 * (time.perf_counter() - began))
        print(f"| `{name}` | {statistics.median(times):.0f} | {min(times):.0f} |")
    probe = (
        "import time; began = time.perf_counter(); import tfdist; "
        "print(1e3 * (time.perf_counter() - began))"
    )
    inside = [
        float(subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True).stdout)
        for _ in range(15)
    ]
    print(f"| `import tfdist` itself | {statistics.median(inside):.1f} | {min(inside):.1f} |")


if __name__ == "__main__":
    main()
