"""This machine's GPUs: which there are, and which of them a process may use.

    nvidia-smi -L          GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-...)
                             MIG 3g.40gb  Device  0: (UUID: MIG-...)
    CUDA_VISIBLE_DEVICES   numbers or UUIDs; all where it is not set, none from the first on that is
                           no device ("", "-1", Slurm's "NoDevFiles")

A GPU in MIG mode is used by its slices, of which CUDA shows a process one.

Sources: NVIDIA, "CUDA C++ Programming Guide", CUDA Environment Variables; "MIG User Guide", CUDA
Device Enumeration.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "NO_GPU",
    "ORDER_VARIABLE",
    "VISIBLE_VARIABLE",
    "Gpu",
    "GpusHere",
    "free_memory",
    "gpus_here",
]

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER_VARIABLE = "CUDA_DEVICE_ORDER"
NO_GPU = "-1"
"""What CUDA_VISIBLE_DEVICES says where a process is to see no GPU."""

_PROGRAM = "nvidia-smi"
_SECONDS = 30.0  # a driver that is not kept loaded needs seconds for each card
_CARD = re.compile(r"GPU (\d+): (.+) \(UUID: (GPU-[^)\s]+)\)")
_SLICE = re.compile(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)\s]+)\)")
_SLICE_SIZE = re.compile(r"(\d+)gb")


@dataclass(frozen=True)
class Gpu:
    """What a process can be given: a GPU, or a MIG slice of one.

    Attributes:
        id: its UUID, as CUDA_VISIBLE_DEVICES takes it; its number where the UUID is not known.
        name: such as "NVIDIA H100 80GB HBM3", or "NVIDIA H100 80GB HBM3 MIG 3g.40gb".
    """

    id: str
    name: str

    @property
    def is_slice(self) -> bool:
        """Whether it is a MIG slice, of which a process can use only one."""
        return self.id.startswith("MIG-")

    @property
    def short(self) -> str:
        """The beginning of its id, for a line of a log."""
        return self.id if len(self.id) <= 12 else self.id[:12]


@dataclass(frozen=True)
class GpusHere:
    """What a process may use.

    Attributes:
        gpus: in the order in which CUDA shows them.
        trouble: why they are not known, where nvidia-smi is here and fails; else "".
    """

    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""


def gpus_here(environ: Mapping[str, str]) -> GpusHere:
    """Finds the GPUs that a process with these variables may use.

    Args:
        environ: the variables; CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are read.

    Returns:
        The GPUs; none where there is no nvidia-smi.
    """
    if environ.get(VISIBLE_VARIABLE, "").strip() == NO_GPU:
        return GpusHere()
    try:
        text = _ask("-L", path=environ.get("PATH"))
    except _Failed as failed:
        return GpusHere(trouble=str(failed))
    cards = _read(text)
    if VISIBLE_VARIABLE not in environ:
        return GpusHere(tuple(gpu for card in cards for gpu in card))
    names = {re.sub(" MIG .*", "", card[0].name) for card in cards}
    # CUDA numbers cards of different kinds by their speed, unless it is told not to.
    in_order = len(names) == 1 or environ.get(ORDER_VARIABLE) == "PCI_BUS_ID"
    return GpusHere(_chosen(environ[VISIBLE_VARIABLE], cards, in_order))


def free_memory(gpu: Gpu) -> int | None:
    """Returns how much of a GPU's memory is free, in MiB; None where nobody tells.

    Of a MIG slice it is what its name says, most of which is free.
    """
    if gpu.is_slice:
        found = _SLICE_SIZE.search(gpu.name.rpartition("MIG")[2])
        return None if found is None else int(found[1]) * 10**9 // 2**20
    try:
        text = _ask("--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits")
    except _Failed:
        return None
    rows = dict(line.split(", ", 1) for line in text.splitlines() if ", " in line)
    free = rows.get(gpu.id, "").strip()
    return int(free) if free.isdecimal() else None


class _Failed(Exception):
    """The program is here, and does not tell."""


def _ask(*arguments: str, path: str | None = None) -> str:
    """What nvidia-smi says; "" where there is none."""
    program = shutil.which(_PROGRAM, path=path)
    if program is None:
        return ""
    try:
        ran = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _Failed(f"{_PROGRAM} has not answered within {_SECONDS:g} s") from None
    except OSError as error:
        raise _Failed(f"{_PROGRAM} cannot be started: {error.strerror}") from None
    if ran.returncode:
        said = (ran.stdout + ran.stderr).strip().splitlines() or ["nothing"]
        if said[0].lower().startswith("no devices"):
            return ""
        raise _Failed(f"{_PROGRAM} ended with {ran.returncode}: {said[0]}")
    return ran.stdout


def _read(text: str) -> list[tuple[Gpu, ...]]:
    """What `nvidia-smi -L` lists: of each card the card itself, or its slices."""
    cards: list[tuple[str, list[Gpu], list[Gpu]]] = []
    for line in text.splitlines():
        if found := _CARD.match(line):
            cards.append((found[2], [Gpu(found[3], found[2])], []))
        elif cards and (found := _SLICE.match(line)):
            name, _, slices = cards[-1]
            slices.append(Gpu(found[2], f"{name} MIG {found[1]}"))
    return [tuple(slices or card) for _, card, slices in cards]


def _chosen(text: str, cards: Sequence[tuple[Gpu, ...]], in_order: bool) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES names, up to the first that is none."""
    chosen: list[Gpu] = []
    for word in map(str.strip, text.split(",")):
        found: Sequence[Gpu] = ()
        if word.isdecimal():
            if int(word) < len(cards):
                found = cards[int(word)][:1] if in_order else [Gpu(word, "a GPU")]
        elif word.startswith(("GPU-", "MIG-")):
            found = [gpu for card in cards for gpu in card if gpu.id.startswith(word)]
        if len(found) != 1 or found[0] in chosen:
            break
        chosen += found
    return tuple(chosen)
