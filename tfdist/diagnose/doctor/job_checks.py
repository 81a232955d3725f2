"""How the tasks of a job fit together: names, ports, who reaches whom, versions, clocks. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from tfdist.cluster import Cluster
from tfdist.cluster.address import Address
from tfdist.diagnose.doctor.finding import Finding, who
from tfdist.diagnose.doctor.spec_checks import is_of_one_host
from tfdist.diagnose.doctor.visit import Reach, Visit

__all__ = ["clocks", "meeting", "names", "places", "ports", "reach", "versions", "why_not_met"]

_CLOCK_SECONDS = 1.0
_MOST_SHOWN = 4
_HOW_TO_MEET = (
    "run `tfdist doctor --task JOB:INDEX spec.json` on each host at the same time, or `srun tfdist "
    "doctor`: then they meet"
)


def names(visit: Visit) -> Iterator[Finding]:
    """Whether the hosts' names mean something, and the same to all."""
    if visit.cluster is None:
        return
    told: dict[str, dict[tuple[str, ...] | str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, facts in visit.facts.items():
        for host, found in facts.names.items():
            told[host][found].append(name)
    well = 0
    for host, answers in told.items():
        here = [str(t) for t in visit.cluster.tasks if _address(visit.cluster, t).host == host]
        wrong = {found: tasks for found, tasks in answers.items() if isinstance(found, str)}
        for found, tasks in wrong.items():
            yield Finding(
                "bad",
                "names",
                f"the host {host!r} of {who(here)} does not resolve on {who(tasks)} ({found})",
                "mend its name in the spec, or make it known there (DNS, /etc/hosts)",
                tuple(here),
            )
        if not wrong and len(answers) > 1 and not Address(host, 1).is_loopback:
            each = "; ".join(
                f"{', '.join(found)} for {who(tasks)}" for found, tasks in answers.items()
            )
            yield Finding(
                "doubtful",
                "names",
                f"{host!r} of {who(here)} is not the same to all: {each}",
                "give it one address everywhere (a line of /etc/hosts that says 127.0.1.1 is a "
                "common cause), or write addresses into the spec",
                tuple(here),
            )
        well += not wrong
    shown = [
        f"{host} ({', '.join(found)})" if Address(host, 1).is_name else host
        for host, answers in told.items()
        for found in [next(iter(answers))]
        if not isinstance(found, str)
    ]
    if well:
        more = ", ..." if well > _MOST_SHOWN else ""
        count = "1 host is" if well == 1 else f"{well} hosts are"
        yield Finding("good", "names", f"{count} known: {', '.join(shown[:_MOST_SHOWN])}{more}")


def places(visit: Visit) -> Iterator[Finding]:
    """Whether two tasks are at one place, behind names that differ."""
    if visit.cluster is None:
        return
    known = next((one.names for one in visit.facts.values()), {})
    first: dict[tuple[frozenset[str], int], str] = {}
    for name in map(str, visit.cluster.tasks):
        address = _address(visit.cluster, name)
        found = known.get(address.host)
        if not isinstance(found, tuple):
            continue
        other = first.setdefault((frozenset(found), address.port), name)
        if other != name:
            yield Finding(
                "bad",
                "spec",
                f"{other} ({visit.cluster.address(other)}) and {name} ({address}) are one place "
                f"({', '.join(found)})",
                "give every task its own host or port",
                (other, name),
            )


def ports(visit: Visit) -> Iterator[Finding]:
    """Whether each task can listen at its port."""
    if visit.cluster is None:
        return
    # Not the evaluator beside parameter servers, which has no address.
    listen = [str(task) for task in visit.cluster.tasks]
    why = visit.ports or {name: facts.port for name, facts in visit.facts.items() if name in listen}
    for name, reason in why.items():
        if reason:
            address = visit.cluster.address(name)
            yield Finding(
                "bad",
                "ports",
                f"port {Address.parse(address).port} of {name} ({address}) is {reason}",
                f"end that process, or give {name} another port in the spec of every task",
                (name,),
            )
    free = [name for name, reason in why.items() if not reason]
    if free:
        shown = free if len(free) <= _MOST_SHOWN else free[:_MOST_SHOWN]
        listed = ", ".join(f"{name} {_port(visit.cluster, name)}" for name in shown)
        more = f", ... ({len(free)} tasks)" if len(free) > len(shown) else ""
        yield Finding("good", "ports", f"free: {listed}{more}")
    others = [name for name in listen if name not in why]
    if others and not visit.is_whole:
        yield Finding(
            "unchecked",
            "ports",
            f"those of {who(others)}, which are on other machines",
            _HOW_TO_MEET,
            tuple(others),
        )


def meeting(visit: Visit) -> Iterator[Finding]:
    """Whether the doctors of all tasks have come."""
    for text in visit.refused:
        said, _, todo = text.rpartition("; ")
        yield Finding("bad", "meeting", said or text, todo if said else "mend it on that host")
    for text in visit.unlike:
        said, _, todo = text.rpartition("; ")
        yield Finding("bad", "spec", said or text, todo if said else "mend it on that host")
    if not visit.is_whole or visit.cluster is None:
        return
    chief = str(visit.cluster.chief)
    for name in visit.missing[:_MOST_SHOWN]:
        found = visit.reached.get((chief, name))
        why = why_not_met(found) if found else "it was not asked for"
        yield Finding(
            "bad",
            "meeting",
            f"no doctor of {name} ({visit.cluster.address(name)}) came within "
            f"{visit.waited:.0f} s: {why[0] if found else why}",
            why[1] if found else f"start `tfdist doctor --task {name}` on its host",
            (name,),
        )
    if more := visit.missing[_MOST_SHOWN:]:
        yield Finding(
            "bad",
            "meeting",
            f"nor did those of {who(more)} come",
            "start them at the same time",
            more,
        )
    if not visit.missing:
        count = len(visit.facts)
        yield Finding("good", "meeting", f"the doctors of all {count} tasks have met")


def why_not_met(found: Reach) -> tuple[str, str]:
    """Says why a task's doctor was not met, and what to do.

    Args:
        found: What an attempt to reach it has found.
    """
    if found.outcome == "closed":
        return (
            "its host answers, but nobody listens there",
            "start the doctor of that task there at the same time; see that it has the same spec",
        )
    if found.outcome == "silent":
        return (
            f"its host does not answer{f' ({found.detail})' if found.detail else ''}",
            "see that the host is up and its address right, and that no firewall drops the port",
        )
    if found.outcome == "met":
        return (
            "it can be reached, and does not reach the chief",
            "see that no firewall drops the chief's port, and that its host knows the chief's name",
        )
    return f"there is {found.detail}", "end it, or give that task another port"


def reach(visit: Visit) -> Iterator[Finding]:
    """Who reaches whom."""
    cluster = visit.cluster
    if cluster is None:
        return
    if not visit.is_whole:
        yield from _reach_from_here(visit, cluster)
        return
    failed: dict[str, dict[str, Reach]] = defaultdict(dict)
    for (one, to), found in visit.reached.items():
        if found.outcome != "met" and to in visit.facts and not visit.facts[to].port:
            failed[to][one] = found
    for to, by in failed.items():
        found = next(iter(by.values()))
        back = [one for one in by if _met(visit.reached, to, one)]
        one_way = f", though {to} reaches {who(back)}" if back else ""
        how = {
            "silent": "no answer",
            "closed": "the connection is refused",
        }.get(found.outcome, f"there is {found.detail}")
        yield Finding(
            "bad",
            "reach",
            f"{who(by, len(visit.facts))} cannot reach {to} ({cluster.address(to)}): {how}"
            f"{one_way}",
            f"open port {_port(cluster, to)} on the way there (a firewall of the host, a security "
            "group, a network policy), or correct its address",
            (to,),
        )
    met = [found.seconds for found in visit.reached.values() if found.outcome == "met"]
    if met:
        slowest = max(met)
        yield Finding(
            "good",
            "reach",
            f"{len(met)} of {len(visit.reached)} ways tried between tasks are open; the slowest "
            f"answer took {slowest * 1000:.1f} ms",
        )


def _reach_from_here(visit: Visit, cluster: Cluster) -> Iterator[Finding]:
    if is_of_one_host(cluster):
        yield Finding("good", "reach", "all tasks are at this machine's loopback")
        return
    for (_, to), found in visit.reached.items():
        if found.outcome == "silent":
            text, todo = why_not_met(found)
            yield Finding("bad", "reach", f"{to} ({cluster.address(to)}): {text}", todo, (to,))
        elif found.outcome in ("other", "met"):
            there = found.detail or "a doctor that waits for others"
            yield Finding(
                "doubtful",
                "reach",
                f"{to} ({cluster.address(to)}): there is {there}",
                "end it before the job starts, unless it belongs to this check",
                (to,),
            )
    answers = [to for (_, to), found in visit.reached.items() if found.outcome == "closed"]
    if answers:
        yield Finding("good", "reach", f"the hosts of {who(answers)} answer from here")
    yield Finding(
        "unchecked",
        "reach",
        "whether the hosts reach each other, and this one: their doctors are not here",
        _HOW_TO_MEET,
    )


def versions(visit: Visit) -> Iterator[Finding]:
    """Whether all tasks run the same."""
    told: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for name, facts in visit.facts.items():
        told[tuple(facts.versions.items())].append(name)
    for listed, tasks in told.items():
        if missing := [package for package, version in listed if not version]:
            yield Finding(
                "bad",
                "versions",
                f"{who(tasks)}: {' and '.join(missing)} not installed",
                "pip install it into the environment whose Python starts the tasks there",
                tuple(tasks),
            )
    most = max(told, key=lambda listed: len(told[listed]), default=())
    for listed, tasks in told.items():
        usual = dict(most)
        if other := [f"{p} {v}" for p, v in listed if v and usual.get(p) and usual[p] != v]:
            mine = [f"{p} {usual[p]}" for p, v in listed if v and usual.get(p) and usual[p] != v]
            yield Finding(
                "bad",
                "versions",
                f"{', '.join(other)} on {who(tasks)}, {', '.join(mine)} on {who(told[most])}",
                "install the same version on every machine",
                tuple(tasks),
            )
    if most and all(version for _, version in most):
        text = ", ".join(f"{package} {version}" for package, version in most)
        yield Finding("good", "versions", f"{text} on {who(told[most], len(visit.facts))}")


def clocks(visit: Visit) -> Iterator[Finding]:
    """Whether the clocks agree: of logs, of files on a shared disk, of certificates."""
    if visit.cluster is None or (is_of_one_host(visit.cluster) and not visit.offsets):
        return
    chief = visit.cluster.chief
    off = {name: by for name, by in visit.offsets.items() if abs(by) > _CLOCK_SECONDS}
    for name, by in off.items():
        yield Finding(
            "bad",
            "clocks",
            f"{name}'s is {abs(by):.1f} s {'ahead of' if by > 0 else 'behind'} {chief}'s",
            "have both hosts keep the time (chrony, systemd-timesyncd, ntpd): logs, the age of "
            "files on a shared disk and certificates depend on it",
            (name,),
        )
    good = [abs(by) for name, by in visit.offsets.items() if name not in off]
    if good:
        yield Finding("good", "clocks", f"within {max(good) * 1000:.0f} ms of {chief}'s")
    elif not off:
        yield Finding("unchecked", "clocks", "those of the other hosts", _HOW_TO_MEET)


def _met(reached: Mapping[tuple[str, str], Reach], one: str, to: str) -> bool:
    return (one, to) in reached and reached[one, to].outcome == "met"


def _address(cluster: Cluster, task: object) -> Address:
    return Address.parse(cluster.address(str(task)))


def _port(cluster: Cluster, task: str) -> int:
    return _address(cluster, task).port
