"""What the doctor of one task has seen where it runs: pure data, which travels to the chief's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tfdist.machine.gpus import Gpu
from tfdist.rendezvous.handshake import plain

__all__ = ["FolderFacts", "HostFacts"]

_LONGEST = 500


@dataclass(frozen=True)
class FolderFacts:
    """What a folder can do.

    Attributes:
        path: Which.
        failure: What could not be done in it, and why; "" where all could.
        free: Bytes that this user may still write.
        files: How many more files there may be; -1 where the file system does not tell.
        sync: Seconds that one MiB took to be on the disk.
        locks: Whether files can be locked, which nothing of tfdist needs.
        links: Whether files can have two names (hard links), which nothing of tfdist needs.
    """

    path: str
    failure: str = ""
    free: int = 0
    files: int = -1
    sync: float = 0.0
    locks: bool = True
    links: bool = True


@dataclass(frozen=True)
class HostFacts:
    """What there is where a task is to run.

    Attributes:
        task: The task; "" where this machine has none of its own.
        host: The machine's own name.
        cores_of: Equal for two processes that compute on the same cores.
        cores: How many cores the process may use.
        memory_of: Equal for two processes that take theirs of the same memory.
        memory: Bytes that it may still take.
        open_files: How many files (and connections) it may have open.
        file_size: The largest file that it may write, in bytes; -1 without a limit.
        versions: Of tfdist, TensorFlow, Keras and Python; "" for what is not installed.
        environments: The environments that were found, by name.
        names: From the hosts of the cluster to their addresses, or why there are none.
        port: Why its task cannot listen; "" where it can.
        folder: The run folder.
        gpus: The cards that the process may use.
        gpu_trouble: Why they are not known; "" where they are.
        secret: Whether it has the job's secret.
    """

    task: str
    host: str
    cores_of: str
    cores: int
    memory_of: str
    memory: int
    open_files: int
    file_size: int
    versions: Mapping[str, str]
    environments: tuple[str, ...]
    names: Mapping[str, tuple[str, ...] | str]
    port: str
    folder: FolderFacts
    gpus: tuple[Gpu, ...] = ()
    gpu_trouble: str = ""
    secret: bool = field(default=False, repr=False)

    def to_message(self) -> dict[str, Any]:
        """Returns what `from_message` reads."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: object) -> HostFacts:
        """Reads facts that have come from another task, and believes nothing of them.

        Args:
            message: What should be such facts.

        Raises:
            ValueError: It is something else.
        """
        try:
            told = _mapping(message)
            folder = _mapping(told["folder"])
            return cls(
                task=_text(told["task"]),
                host=_text(told["host"]),
                cores_of=_text(told["cores_of"]),
                cores=_whole(told["cores"]),
                memory_of=_text(told["memory_of"]),
                memory=_whole(told["memory"]),
                open_files=_whole(told["open_files"]),
                file_size=_whole(told["file_size"]),
                port=_text(told["port"]),
                versions={_text(k): _text(v) for k, v in _mapping(told["versions"]).items()},
                environments=tuple(map(_text, _list(told["environments"]))),
                names={_text(k): _addresses(v) for k, v in _mapping(told["names"]).items()},
                folder=FolderFacts(
                    path=_text(folder["path"]),
                    failure=_text(folder["failure"]),
                    free=_whole(folder["free"]),
                    files=_whole(folder["files"]),
                    sync=_number(folder["sync"]),
                    locks=_truth(folder["locks"]),
                    links=_truth(folder["links"]),
                ),
                gpus=tuple(map(_gpu, _list(told["gpus"]))),
                gpu_trouble=_text(told["gpu_trouble"]),
                secret=_truth(told["secret"]),
            )
        except KeyError as error:
            raise ValueError(f"facts without {error}") from None


def _gpu(told: object) -> Gpu:
    one = _mapping(told)
    return Gpu(_text(one["id"]), _text(one["name"]))


def _addresses(told: object) -> tuple[str, ...] | str:
    return _text(told) if isinstance(told, str) else tuple(map(_text, _list(told)))


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("facts that are no object")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise ValueError("facts with something else where a list should be")
    return list(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("facts with something else where a text should be")
    return plain(value, _LONGEST)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value < 1 << 63:
        raise ValueError("facts with something else where a count should be")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise ValueError("facts with something else where seconds should be")
    return float(value)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("facts with something else where yes or no should be")
    return value
