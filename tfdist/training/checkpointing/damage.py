"""Whether a checkpoint is whole, by what can be told without TensorFlow."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from tfdist.training.checkpointing.sharded_folder import Contents, is_sharded, state_file

__all__ = ["damage_of"]


def damage_of(path: Path) -> str | None:
    """Says what is wrong with a checkpoint.

    A `.keras` file is a zip archive, with a CRC-32 of each part. Of a sharded checkpoint this
    looks at the chief's archive and at the sizes of all other files; the checksums of what the
    servers have written are looked at by TensorFlow when it is read.

    Args:
        path: a `.keras` file, which is read whole, or the folder of a sharded one.

    Returns:
        The damage in a few words; None where there is none.
    """
    if not is_sharded(path):
        return _damage_of_archive(path)
    if not path.is_dir():
        return "it is not there"
    if damage := _damage_of_archive(state_file(path)):
        return f"its part {state_file(path).name}: {damage}"
    try:
        return Contents.of(path).damage(path)
    except (ValueError, KeyError, TypeError) as error:
        return f"its list of variables cannot be read: {error}"


def _damage_of_archive(path: Path) -> str | None:
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
