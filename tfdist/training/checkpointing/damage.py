"""Whether a checkpoint file is whole: told by the checksums that a `.keras` file has inside."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

__all__ = ["damage_of"]


def damage_of(path: Path) -> str | None:
    """Says what is wrong with a `.keras` file: it is a zip archive, with a CRC-32 of each part.

    Args:
        path: the file; it is read whole.

    Returns:
        The damage in a few words; None where the file is whole.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except FileNotFoundError:
        return "it is not there"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return f"it is cut off or overwritten: {str(error).rstrip('.').lower()}"
    except OSError as error:
        return f"it cannot be read: {(error.strerror or str(error)).lower()}"
    return None if broken is None else f"the checksum of its part {broken} is wrong"
