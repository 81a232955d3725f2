"""What each Python process that a test starts does first: it spares Keras half of its start.

`import keras` also imports pandas, matplotlib, scikit-learn and IPython where they are installed:
1.5 of its 3.8 seconds of processor, and a job has several processes. Keras does without them;
whoever else imports them gets them. Looking for garbage among modules takes another 0.2.

`tests/conftest.py` puts this folder on the path of the processes that tests start. The tests' own
have all of Keras.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import FrameType, ModuleType

NEEDLESS = frozenset({"IPython", "matplotlib", "pandas", "sklearn"})


class SparesKeras(MetaPathFinder):
    """Finds nothing, but tells Keras' modules that what they can do without is not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if fullname in NEEDLESS and _importer().startswith("keras."):
            raise ModuleNotFoundError(f"{fullname} is kept from Keras", name=fullname)


def _importer() -> str:
    """The module whose body is importing something; empty for a function that does."""
    frame: FrameType | None = sys._getframe(2)
    while frame and frame.f_globals.get("__name__", "").startswith("importlib."):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "<module>":
        return ""
    name: str = frame.f_globals.get("__name__", "")
    return name


if "PYTEST_CURRENT_TEST" in os.environ:
    sys.meta_path.insert(0, SparesKeras())
    gc.set_threshold(50_000, 20, 50)
