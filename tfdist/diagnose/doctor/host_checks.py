"""What each machine has to offer: cores, memory, limits, the run folder, cards. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from tfdist.diagnose.doctor.finding import Finding, who
from tfdist.diagnose.doctor.host_facts import HostFacts
from tfdist.diagnose.doctor.visit import Visit
from tfdist.machine.gpus import Gpu

__all__ = ["cores", "files", "folder", "gpus", "memory"]

_GIB = 1 << 30
_LEAST_MEMORY = _GIB
_LITTLE_MEMORY = 2 * _GIB
_LEAST_DISK = 64 << 20
_LITTLE_DISK = _GIB
_FEW_FILES = 1000
_SLOW_SYNC = 1.0
_FILES_OF_ITS_OWN = 256
_FILES_A_TASK = 4


def _sharing(visit: Visit, what: Callable[[HostFacts], str]) -> list[tuple[HostFacts, list[str]]]:
    """The tasks that have something in common, with what one of them has seen."""
    if visit.ports:  # all of the job's tasks, on this machine
        own = next(iter(visit.facts.values()))
        return [(own, list(visit.ports))]
    found: dict[str, tuple[HostFacts, list[str]]] = {}
    for name, facts in visit.facts.items():
        found.setdefault(what(facts), (facts, []))[1].append(name)
    return list(found.values())


def cores(visit: Visit) -> Iterator[Finding]:
    """Whether there are as many cores as tasks that compute."""
    # Parameter servers serve, and the chief that they bring with them hands out work.
    serves = visit.cluster is not None and "ps" in visit.cluster.jobs
    idle = ("ps:", "evaluator:", *(("chief:",) if serves else ()))
    well = []
    for facts, tasks in _sharing(visit, lambda facts: facts.cores_of):
        computing = [name for name in tasks if not name.startswith(idle)]
        if len(computing) > facts.cores:
            yield Finding(
                "doubtful",
                "cores",
                f"{facts.host}: {_cores(facts.cores)} for {len(computing)} tasks that compute "
                f"({who(computing)}), which will wait for each other",
                f"start no more than {facts.cores} there, or allow the job more cores",
                tuple(computing),
            )
        else:
            well.append(f"{facts.host} {_cores(facts.cores)} for {_tasks(len(tasks))}")
    if well:
        yield Finding("good", "cores", _listed(well))


def memory(visit: Visit) -> Iterator[Finding]:
    """Whether the memory suffices for TensorFlow at least."""
    well = []
    for facts, tasks in _sharing(visit, lambda facts: facts.memory_of):
        if facts.memory < 0:
            yield Finding(
                "unchecked",
                "memory",
                f"{facts.host} does not tell how much is free",
                f"look there whether {_size(_LITTLE_MEMORY)} are free for each task",
                tuple(tasks),
            )
            continue
        each = facts.memory // len(tasks)
        text = f"{facts.host} {_size(facts.memory)} free for {_tasks(len(tasks))}"
        if each < _LITTLE_MEMORY:
            yield Finding(
                "bad" if each < _LEAST_MEMORY else "doubtful",
                "memory",
                f"{text}: {_size(each)} each, of which TensorFlow takes 0.6 GiB before it computes",
                "end other programs there, start fewer tasks, or raise the limit (ulimit -v, "
                "--mem under Slurm, the container's)",
                tuple(tasks),
            )
        else:
            well.append(text)
    if well:
        yield Finding("good", "memory", _listed(well))


def files(visit: Visit) -> Iterator[Finding]:
    """Whether the limits of open files and of their size leave room for a job."""
    count = 1 if visit.cluster is None else len(visit.cluster)
    needed = _FILES_OF_ITS_OWN + _FILES_A_TASK * count
    few = {name: one for name, one in visit.facts.items() if 0 <= one.open_files < needed}
    small = {name: one for name, one in visit.facts.items() if one.file_size >= 0}
    if few:
        least = min(one.open_files for one in few.values())
        yield Finding(
            "bad",
            "limits",
            f"{who(few, len(visit.facts))} may have {least} files and connections open; a job of "
            f"{_tasks(count)} needs {needed}",
            f"ulimit -Hn {needed} in the shell that starts them (limits.conf, LimitNOFILE of the "
            "service)",
            tuple(few),
        )
    if small:
        least = min(one.file_size for one in small.values())
        yield Finding(
            "doubtful",
            "limits",
            f"{who(small, len(visit.facts))} may write no file above {_size(least)}: a larger "
            "checkpoint fails",
            "ulimit -f unlimited in the shell that starts them",
            tuple(small),
        )
    if not few and not small:
        yield Finding("good", "limits", f"open files: {needed} are allowed and enough")


def folder(visit: Visit) -> Iterator[Finding]:
    """Whether checkpoints and logs can be written."""
    well: dict[str, list[str]] = defaultdict(list)
    for name, facts in visit.facts.items():
        one = facts.folder
        at = f"{who([name])}: {one.path}"
        if one.failure:
            yield Finding(
                "bad",
                "folder",
                f"{at}: {one.failure}; {_size(one.free)} are free",
                "give it to this user, free some space, or take another folder (--folder DIR)",
                (name,),
            )
        elif one.free < _LITTLE_DISK or 0 <= one.files < _FEW_FILES:
            yield Finding(
                "bad" if one.free < _LEAST_DISK else "doubtful",
                "folder",
                f"{at} has {_size(one.free)} left"
                + (f", and room for {one.files} files" if 0 <= one.files < _FEW_FILES else ""),
                "free some space: two checkpoints must fit at a time",
                (name,),
            )
        elif one.sync > _SLOW_SYNC:
            yield Finding(
                "doubtful",
                "folder",
                f"{at} took {one.sync:.1f} s to have 1 MiB on its disk",
                "take a faster disk for checkpoints, or save less often",
                (name,),
            )
        else:
            lacks = [w for w, can in (("locks", one.locks), ("hard links", one.links)) if not can]
            without = f"; no {' and no '.join(lacks)}, which tfdist does not need" if lacks else ""
            room = f"{_size(one.free)} free, 1 MiB on disk in {one.sync * 1000:.0f} ms"
            well[f"{one.path}: written, synced, renamed{without}"].append(
                f"{who([name])} {room}" if len(visit.facts) > 1 else room
            )
    for text, rooms in well.items():
        yield Finding("good", "folder", f"{text} ({_listed(rooms)})")
    yield from _same_folder(visit)


def _same_folder(visit: Visit) -> Iterator[Finding]:
    apart = [name for name, sees in visit.folders.items() if not sees]
    if apart and not any(visit.facts[name].folder.failure for name in apart):
        yield Finding(
            "good",
            "folder",
            f"{who(apart)} do not see what the chief writes there, whose checkpoints are for all: "
            "that is enough as long as the chief stays on its host",
            tasks=tuple(apart),
        )
    elif visit.folders and not apart:
        yield Finding("good", "folder", "it is one and the same for all tasks")


def gpus(visit: Visit) -> Iterator[Finding]:
    """Which cards there are, and which task may use which."""
    holders: dict[Gpu, list[str]] = defaultdict(list)
    for name, facts in visit.facts.items():
        for card in facts.gpus:
            holders[card].append(name)
    for name, facts in visit.facts.items():
        if facts.gpu_trouble:
            yield Finding(
                "bad",
                "gpus",
                f"{who([name])}: {facts.gpu_trouble}",
                "mend the driver there, or set CUDA_VISIBLE_DEVICES=-1 for all tasks",
                (name,),
            )
    for card, tasks in holders.items():
        if len(tasks) > 1:
            yield Finding(
                "doubtful",
                "gpus",
                f"{who(tasks)} may use the same {card.name} ({card.short})",
                "have `tfdist run` share the cards of a host out (--gpus_per_task), or the "
                "scheduler",
                tuple(tasks),
            )
    blind = [name for name, facts in visit.facts.items() if not facts.gpus]
    if holders and blind:
        yield Finding(
            "doubtful",
            "gpus",
            f"{who(blind)} sees no card, and others do: workers in step need as many each",
            "ask for a card for each task, or set CUDA_VISIBLE_DEVICES=-1 for all of them",
            tuple(blind),
        )
    if holders:
        told = [
            f"{who([name])} may use {', '.join(f'{one.name} {one.short}' for one in facts.gpus)}"
            for name, facts in visit.facts.items()
            if facts.gpus
        ]
        yield Finding("good", "gpus", _listed(told))
    elif not any(facts.gpu_trouble for facts in visit.facts.values()):
        yield Finding("good", "gpus", "none (no nvidia-smi, or it shows none): tasks use the CPU")


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _listed(texts: list[str], most: int = 4) -> str:
    more = f"; ... and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more


def _size(count: int) -> str:
    if count >= _GIB:
        return f"{count / _GIB:.1f} GiB"
    return f"{count / (1 << 20):.0f} MiB"
