"""From what was seen to what is said: pure, and so is what travels between doctors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.cluster import Cluster
from tfdist.diagnose.doctor import host_checks, job_checks, spec_checks
from tfdist.diagnose.doctor.finding import Finding, Report, who
from tfdist.diagnose.doctor.host_facts import FolderFacts, HostFacts
from tfdist.diagnose.doctor.visit import Reach, Visit, to_be_reached
from tfdist.machine.gpus import Gpu

GIB = 1 << 30
CLUSTER = Cluster({"worker": ("a:2222", "b:2222", "c:2222")})
NAMES = {"a": ("10.0.0.1",), "b": ("10.0.0.2",), "c": ("10.0.0.3",)}
CARD = Gpu("GPU-1", "NVIDIA H100")


def seen(task: str = "worker:0", **changes: Any) -> HostFacts:
    """What the doctor of a healthy task sees."""
    facts = HostFacts(
        task,
        f"host of {task}",
        f"cores of {task}",
        4,
        f"memory of {task}",
        16 * GIB,
        1024,
        -1,
        {"tfdist": "1", "tensorflow": "2", "keras": "3", "python": "3.11"},
        (),
        NAMES,
        "",
        FolderFacts("run", "", 100 * GIB, 10**6, 0.01),
    )
    return dataclasses.replace(facts, **changes)


def visit(*facts: HostFacts, **more: Any) -> Visit:
    there = facts or tuple(seen(f"worker:{n}") for n in range(3))
    return Visit(CLUSTER, {one.task: one for one in there}, **{"is_whole": True, **more})


def levels(findings: Iterable[Finding]) -> list[str]:
    return [one.level for one in findings]


def test_facts_travel() -> None:
    facts = seen(gpus=(CARD,), names={**NAMES, "d": "no such host"}, environments=("Slurm",))
    assert HostFacts.from_message(json.loads(json.dumps(facts.to_message()))) == facts


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from([field.name for field in dataclasses.fields(HostFacts)]),
)
def test_facts_that_are_none_are_refused(value: Any, name: str) -> None:
    message = seen().to_message() | {name: value}
    try:
        facts = HostFacts.from_message(message)
    except ValueError:
        return
    assert HostFacts.from_message(json.loads(json.dumps(facts.to_message()))) == facts


def test_something_bad_says_what_to_do_and_decides_the_exit_code() -> None:
    with pytest.raises(ValueError, match="nothing to do"):
        Finding("bad", "ports", "taken")
    good, bad = Finding("good", "ports", "free"), Finding("bad", "ports", "taken", "free it")
    assert Report([good]).exit_code == 0
    assert Report([good, Finding("doubtful", "cores", "few", "add some")]).exit_code == 0
    report = Report([good, bad])
    assert report.exit_code == 1
    assert "-> free it" in report.text()
    assert "free\n" not in report.text(["bad"])
    assert report.to_json()["counts"] == {"bad": 1, "doubtful": 0, "unchecked": 0, "good": 1}


def test_an_address_is_not_broken_over_two_lines() -> None:
    address = "worker-0.a-very-long-name-of-a-service.some-namespace.svc.cluster.local:2222"
    assert address in Report([Finding("good", "names", f"{'word ' * 12}{address}")]).text()


def test_many_tasks_are_counted() -> None:
    assert who(["worker:0", "worker:1"], 2) == "worker:0 and worker:1"
    assert who([f"worker:{n}" for n in range(9)], 9) == "all 9 tasks"
    assert who(f"worker:{n}" for n in range(9)).startswith("9 tasks (worker:0, ")


@pytest.mark.parametrize("count", [40, 200])
def test_each_task_tries_few_of_many_and_is_tried(count: int) -> None:
    cluster = Cluster({"worker": tuple(f"h{n}:1" for n in range(count))})
    tried = {to for n in range(1, count) for to in to_be_reached(cluster, f"worker:{n}")}
    assert len(tried) == count
    assert "worker:0" in to_be_reached(cluster, "worker:7")
    assert len(to_be_reached(cluster, "worker:7")) <= 9


def test_one_host_that_differs_in_versions_is_the_odd_one() -> None:
    odd = seen("worker:2", versions={**seen().versions, "keras": "4"})
    found = list(job_checks.versions(visit(seen("worker:0"), seen("worker:1"), odd)))
    assert levels(found) == ["bad", "good"]
    assert found[0].text == "keras 4 on worker:2, keras 3 on worker:0 and worker:1"
    none = visit(seen(versions={**seen().versions, "keras": ""}))
    assert "keras not installed" in next(job_checks.versions(none)).text


def test_a_name_that_is_not_the_same_to_all() -> None:
    own = seen("worker:1", names={**NAMES, "b": ("127.0.1.1",)})
    found = list(job_checks.names(visit(seen(), own, seen("worker:2"))))
    assert levels(found) == ["doubtful", "good"]
    assert "127.0.1.1 for worker:1" in found[0].text
    assert "10.0.0.2 for worker:0 and worker:2" in found[0].text


def test_two_names_of_one_place() -> None:
    names = {**NAMES, "c": NAMES["b"]}
    (found,) = job_checks.places(visit(seen(names=names)))
    assert found.tasks == ("worker:1", "worker:2")
    assert list(job_checks.places(visit())) == []


def test_who_reaches_whom() -> None:
    ways = {
        (f"worker:{one}", f"worker:{to}"): Reach("met", seconds=0.001)
        for one in range(3)
        for to in range(3)
        if one != to
    }
    assert levels(job_checks.reach(visit(reached=ways))) == ["good"]
    ways["worker:0", "worker:1"] = Reach("silent")
    bad, good = job_checks.reach(visit(reached=ways))
    assert "worker:0 cannot reach worker:1 (b:2222): no answer, though worker:1 reaches" in bad.text
    assert good.text.startswith("5 of 6 ways")


def test_from_one_machine_what_was_not_seen_is_said() -> None:
    alone = {("", "worker:1"): Reach("closed"), ("", "worker:2"): Reach("silent", "no route")}
    one = Visit(CLUSTER, {"": seen("")}, reached=alone, ports={"worker:0": ""})
    assert levels(job_checks.reach(one)) == ["bad", "good", "unchecked"]
    assert levels(job_checks.ports(one)) == ["good", "unchecked"]
    assert levels(job_checks.clocks(one)) == ["unchecked"]
    assert list(job_checks.meeting(one)) == []


def test_of_many_missing_some_are_named() -> None:
    cluster = Cluster({"worker": tuple(f"h{n}:1" for n in range(1000))})
    many = Visit(cluster, {"worker:0": seen()}, is_whole=True, waited=20.0)
    found = list(job_checks.meeting(many))
    assert len(found) == 5
    assert "995 tasks" in found[-1].text


def test_memory_is_shared_by_the_tasks_of_a_machine() -> None:
    little = [seen(f"worker:{n}", memory_of="same", memory=4 * GIB) for n in range(3)]
    (found,) = host_checks.memory(visit(*little))
    assert found.level == "doubtful"
    assert "1.3 GiB each" in found.text
    assert levels(host_checks.memory(visit(seen(memory=-1)))) == ["unchecked"]
    apart = [seen(f"worker:{n}", cores_of="same", memory=4 * GIB) for n in range(3)]
    assert levels(host_checks.memory(visit(*apart))) == ["good"]


def test_cores_of_servers_are_not_counted() -> None:
    cluster = Cluster({"chief": ("a:1",), "worker": ("b:1",), "ps": ("c:1", "d:1")})
    ports = {str(task): "" for task in cluster.tasks}
    one = Visit(cluster, {"": seen("", cores=1)}, ports=ports)
    assert levels(host_checks.cores(one)) == ["good"]
    two = Visit(CLUSTER, {"": seen("", cores=1)}, ports={"worker:0": "", "worker:1": ""})
    assert levels(host_checks.cores(two)) == ["doubtful"]


def test_limits_that_are_too_low() -> None:
    assert levels(host_checks.files(visit(seen(open_files=100)))) == ["bad"]
    assert levels(host_checks.files(visit(seen(file_size=1 << 20)))) == ["doubtful"]
    assert levels(host_checks.files(visit())) == ["good"]


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"free": 10 << 20}, "bad"),
        ({"free": 500 << 20}, "doubtful"),
        ({"files": 10}, "doubtful"),
        ({"sync": 3.0}, "doubtful"),
        ({"failure": "it cannot be written to (read-only file system)"}, "bad"),
        ({"locks": False, "links": False}, "good"),
    ],
)
def test_folders(changes: dict[str, Any], level: str) -> None:
    folder = dataclasses.replace(seen().folder, **changes)
    assert levels(host_checks.folder(visit(seen(folder=folder)))) == [level]


def test_a_folder_that_only_the_chief_has() -> None:
    found = list(host_checks.folder(visit(folders={"worker:1": True, "worker:2": False})))
    assert found[-1].tasks == ("worker:2",)
    assert "as long as the chief stays on its host" in found[-1].text


def test_cards() -> None:
    other = dataclasses.replace(CARD, id="GPU-2")
    apart = visit(seen(gpus=(CARD,)), seen("worker:1", gpus=(other,)))
    assert levels(host_checks.gpus(apart)) == ["good"]
    shared = visit(seen(gpus=(CARD,)), seen("worker:1", gpus=(CARD,)))
    assert levels(host_checks.gpus(shared)) == ["doubtful", "good"]
    some = visit(seen(gpus=(CARD,)), seen("worker:1", gpus=()))
    assert levels(host_checks.gpus(some)) == ["doubtful", "good"]
    assert levels(host_checks.gpus(visit())) == ["good"]
    assert levels(host_checks.gpus(visit(seen(gpu_trouble="nvidia-smi ended with 9")))) == ["bad"]


def test_a_secret_that_hosts_need() -> None:
    assert spec_checks.secret(CLUSTER, {}).level == "doubtful"
    assert spec_checks.secret(CLUSTER, {"TFDIST_SECRET": "s" * 16}).level == "good"
    assert spec_checks.secret(CLUSTER, {"TFDIST_SECRET": "short"}).level == "bad"
    assert spec_checks.secret(Cluster({"worker": ("localhost:1",)}), {}).level == "good"
    assert spec_checks.secret(None, {}).level == "good"


def test_a_batch_script_that_forgot_srun() -> None:
    cluster, (found,) = spec_checks.environment({"SLURM_NTASKS": "3"}, given=False)
    assert cluster is None
    assert found.level == "bad"
    assert "srun python train.py" in found.todo
