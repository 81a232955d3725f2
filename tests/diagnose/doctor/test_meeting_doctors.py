"""Doctors of several tasks meet, and the chief's says what all have seen."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.diagnose.doctor.company import Doctor, a_spec, all_of, only, together
from tests.rendezvous.meeting import come
from tfdist.cluster import Cluster
from tfdist.cluster.secret import Secret
from tfdist.diagnose.doctor.line import Caller
from tfdist.rendezvous.handshake import Handshake

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[tuple[Path, Cluster]]:
    with a_spec(tmp_path, 3) as made:
        yield made


def test_all_is_well(spec: tuple[Path, Cluster], tmp_path: Path) -> None:
    folder = {"folder": str(tmp_path)}
    chief, *others = together(*(Doctor(spec[0], f"worker:{n}", {}, folder) for n in range(3)))
    assert chief.exit_code == 0, chief.report.text()
    assert only(chief.report, "meeting", "good").text == "the doctors of all 3 tasks have met"
    assert only(chief.report, "reach", "good").text.startswith("6 of 6 ways tried between tasks")
    assert only(chief.report, "clocks", "good").text.startswith("within ")
    assert "it is one and the same for all tasks" in str(all_of(chief.report, "folder", "good"))
    for other in others:
        assert other.exit_code == 0, other.report.text()
        assert "found nothing bad" in only(other.report, "meeting", "good").text
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]


def test_a_clock_that_is_off_is_told_with_its_offset(spec: tuple[Path, Cluster]) -> None:
    ahead = {"clock": lambda: time.time() + 90.0}
    chief, other, _ = together(
        Doctor(spec[0], "worker:0"),
        Doctor(spec[0], "worker:1", {}, ahead),
        Doctor(spec[0], "worker:2"),
    )
    found = only(chief.report, "clocks", "bad")
    assert found.tasks == ("worker:1",)
    assert found.text == "worker:1's is 90.0 s ahead of worker:0's"
    assert only(chief.report, "clocks", "good").text.endswith("of worker:0's")
    assert chief.exit_code == other.exit_code == 1


def test_one_that_does_not_come_is_named_and_why(spec: tuple[Path, Cluster]) -> None:
    chief, other = together(
        Doctor(spec[0], "worker:0", {}, {"wait": 1.5}), Doctor(spec[0], "worker:2")
    )
    found = only(chief.report, "meeting", "bad")
    assert found.tasks == ("worker:1",)
    assert "its host answers, but nobody listens there" in found.text
    assert other.exit_code == 1


def test_without_the_chief_the_others_say_so_within_their_wait(spec: tuple[Path, Cluster]) -> None:
    begin = time.monotonic()
    (other,) = together(Doctor(spec[0], "worker:1", {}, {"wait": 1.0}))
    assert time.monotonic() - begin < 8
    assert "no doctor at worker:0" in only(other.report, "meeting", "bad").text


SECRET = "a word of sixteen characters"


def test_a_secret_that_one_lacks(spec: tuple[Path, Cluster]) -> None:
    known = {"TFDIST_SECRET": SECRET}
    chief, well, other = together(
        Doctor(spec[0], "worker:0", known, {"wait": 1.0}),
        Doctor(spec[0], "worker:1", known),
        Doctor(spec[0], "worker:2"),
    )
    texts = [one.text for one in all_of(chief.report, "meeting", "bad")]
    assert any("worker:2" in text and "came without a secret" in text for text in texts), texts
    assert "has refused this one" in only(other.report, "meeting", "bad").text
    assert "TFDIST_SECRET" in only(other.report, "meeting", "bad").todo
    assert chief.exit_code == well.exit_code == other.exit_code == 1


def looking_on(cluster: Cluster, secret: str) -> Caller:
    return Caller(cluster, Handshake("", cluster.jobs, "", {}, 0.0, 0.0), Secret(secret))


@pytest.mark.parametrize(("chiefs", "others"), [(SECRET, ""), ("", SECRET)])
def test_a_doctor_that_looks_on_with_another_secret_troubles_nobody(
    spec: tuple[Path, Cluster], chiefs: str, others: str
) -> None:
    path, cluster = spec
    known = {"TFDIST_SECRET": chiefs} if chiefs else {}
    chief, first = (Doctor(path, f"worker:{n}", known) for n in range(2))
    looker = looking_on(cluster, others)
    until = time.monotonic() + 20
    while (found := looker.reach("worker:0")).outcome == "closed" and time.monotonic() < until:
        time.sleep(0.05)
    assert " secret, worker:0 has " in found.detail
    last = Doctor(path, "worker:2", known)
    for one in together(chief, first, last):
        assert one.exit_code == 0, one.report.text()


def test_a_doctor_with_a_secret_does_not_end_a_job_that_has_none(
    spec: tuple[Path, Cluster],
) -> None:
    path, cluster = spec
    job = [come(cluster, f"worker:{n}") for n in range(2)]
    visitor = Doctor(path, "worker:2", {"TFDIST_SECRET": SECRET}).join()
    assert "worker:0 has none" in only(visitor.report, "meeting", "bad").text
    assert "worker:0 has none" in looking_on(cluster, SECRET).reach("worker:0").detail
    job.append(come(cluster, "worker:2"))
    assert len({one.join().agreement.seed for one in job}) == 1
    assert any("refused a connection" in line for line in job[0].log)


def test_two_that_claim_one_task(spec: tuple[Path, Cluster]) -> None:
    chief, *_ = together(
        Doctor(spec[0], "worker:0", {}, {"wait": 1.0}),
        Doctor(spec[0], "worker:1", {}, {"wait": 1.0}),
        Doctor(spec[0], "worker:1", {}, {"wait": 1.0}),
    )
    texts = [one.text for one in all_of(chief.report, "meeting", "bad")]
    assert any("two processes claim to be worker:1" in text for text in texts), texts


def test_another_spec_on_one_task(spec: tuple[Path, Cluster], tmp_path: Path) -> None:
    path, cluster = spec
    shorter = tmp_path / "shorter.json"
    shorter.write_text(Cluster({"worker": cluster.jobs["worker"][:2]}).to_tf_config())
    chief, _, _ = together(
        Doctor(path, "worker:0", {}, {"wait": 1.0}), Doctor(shorter, "worker:1"),
        Doctor(path, "worker:2")
    )  # fmt: skip
    found = only(chief.report, "spec", "bad")
    assert "worker:1" in found.text
    assert "another cluster spec" in found.text


def test_a_task_that_the_chief_does_not_know_is_refused_by_name(
    spec: tuple[Path, Cluster], tmp_path: Path
) -> None:
    path, cluster = spec
    longer = tmp_path / "longer.json"
    workers = (*cluster.jobs["worker"], "127.0.0.1:9")
    longer.write_text(Cluster({"worker": workers}).to_tf_config())
    chief, other = together(
        Doctor(path, "worker:0", {}, {"wait": 1.0}), Doctor(longer, "worker:3")
    )  # fmt: skip
    texts = [one.text for one in all_of(chief.report, "meeting", "bad")]
    assert any("worker:3 (process" in text and "another cluster spec" in text for text in texts)
    assert "has refused this one: worker:3" in only(other.report, "meeting", "bad").text
    assert chief.exit_code == other.exit_code == 1


def test_an_evaluator_beside_parameter_servers_is_one_of_them(tmp_path: Path) -> None:
    with a_spec(tmp_path, 1, ps=1) as (path, cluster):
        names = [*map(str, cluster.tasks), "evaluator:0"]
        chief, *others = together(*(Doctor(path, name) for name in names))
    for one in (chief, *others):
        assert one.exit_code == 0, one.report.text()


def test_an_evaluator_for_which_nobody_waits_is_no_fault(tmp_path: Path) -> None:
    with a_spec(tmp_path, 1, ps=1) as (path, _):
        late = Doctor(path, "evaluator:0", {}, {"wait": 0.2}).join()
    assert late.exit_code == 0, late.report.text()
    assert "before theirs" in only(late.report, "meeting", "unchecked").todo


def test_a_door_has_room_for_all(
    spec: tuple[Path, Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the room that a shell gives by default, a chief's of a thousand tasks would not."""
    asked: list[int] = []
    monkeypatch.setattr(
        "tfdist.diagnose.doctor.examination.allow_open_files", lambda count: asked.append(count)
    )
    Doctor(spec[0], "worker:0", {}, {"wait": 0.1}).join()
    assert asked == [203]


def test_a_chief_s_port_that_is_taken_by_a_web_server(spec: tuple[Path, Cluster]) -> None:
    path, cluster = spec
    port = int(cluster.address("worker:0").rpartition(":")[2])
    with socket.create_server(("", port), reuse_port=True) as taken:
        chief = Doctor(path, "worker:0", {}, {"wait": 1.0}).join()
        found = only(chief.report, "ports", "bad")
        assert f"port {port} of worker:0" in found.text
        assert "in use by process" in found.text
        other = Doctor(path, "worker:1", {}, {"wait": 1.0})
        taken.settimeout(0.2)
        while other._thread.is_alive():
            with contextlib.suppress(OSError), taken.accept()[0] as caller:
                caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                caller.recv(4096)
    other.join()
    assert "a web server" in only(other.report, "meeting", "bad").text


def test_where_names_come_late_they_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    path = tmp_path / "spec.json"
    path.write_text('{"cluster": {"worker": ["127.0.0.1:29300", "nodee.invalid:29300"]}}')
    begin = time.monotonic()
    alone = Doctor(path, None, {}, {"wait": 1.2}).join()
    assert time.monotonic() - begin > 1.2
    assert "'nodee.invalid'" in only(alone.report, "names", "bad").text
