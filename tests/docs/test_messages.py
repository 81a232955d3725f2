"""Every message of an error is on its page, found by its text, and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.cluster import bad_configs
from tests.docs import messages_page
from tests.docs.messages import every_message
from tests.docs.pages import DOCS
from tests.launch.support import compare_with_golden
from tests.machine.names import Names
from tfdist import cli, errors
from tfdist.cluster import Cluster, Task
from tfdist.compat.versions import refusal

# In these files an error is made of a text that was made, and is read, elsewhere.
PASSED_ON = {
    "cluster/checks.py": "a spec's mistake, after the task that has it",
    "cluster/spec.py": "a spec's mistake, after its file",
    "command_line.py": "the text of a ClusterError",
    "compat/installed.py": "compat/versions.py",
    "job_file.py": "the text of TOML's or YAML's error",
    "launch/hosts/host_ground.py": "launch/hosts/survey.py",
    "launch/hosts/host_list.py": "a mistake in a hosts file, after its line",
    "launch/hosts/ssh_command.py": "its own table of what SSH says",
    "launch/network.py": "the words of the system",
    "launch/nodes/node_meeting.py": "the first node's text",
    "launch/result.py": "the last lines of the task that failed",
    "rendezvous/coordinator.py": "rendezvous/wording.py",
    "rendezvous/membership.py": "rendezvous/wording.py",
    "rendezvous/participant.py": "the chief's text",
    "submit/slurm_queue.py": "the words of Slurm",
    "training/evaluator.py": "the text of a CheckpointError",
}


def test_the_page_of_messages_is_that_of_the_code() -> None:
    compare_with_golden(messages_page.rendered(), "messages.md", DOCS)


def test_every_message_says_what_to_do_or_its_page_does() -> None:
    assert not [f"{one.file}:{one.line}: {one.text}" for one in messages_page.missing()]


def test_every_cure_is_of_a_message_that_there_is_and_does_not_say_it_itself() -> None:
    needed = {one.text for one in every_message() if not one.parts()[1]}
    assert messages_page.cures().keys() <= needed


def test_a_text_that_is_passed_on_is_read_where_it_is_made() -> None:
    found = {one.file.removeprefix("tfdist/") for one in every_message() if one.is_passed_on()}
    assert found == PASSED_ON.keys()


def found(said: str) -> bool:
    """Whether somebody who sees this text finds its message, whoever says it before."""
    ends = [said, *(said[at.end() :] for at in re.finditer(": ", said))]
    return any(one.fits(end) for one in every_message() if not one.is_passed_on() for end in ends)


def test_what_a_bad_spec_says_is_found(names: Names) -> None:
    names({"node-1": "198.51.100.1", "localhost": "127.0.0.1"})
    with bad_configs.a_busy_port() as busy:
        for case in bad_configs.CASES:
            said, _ = bad_configs.try_out(case, busy)
            assert found(said or "accepted"), said


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Task.parse("worker"),
        lambda: Cluster.local(workers=0, ports=[]),
        lambda: cli.main(["run", "--workers", "1:0", "x.py"]),
    ],
    ids=["task", "cluster", "command"],
)
def test_what_python_and_the_command_line_say_is_found(
    wrong: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        wrong()
        said = capsys.readouterr().err.strip().removeprefix("[tfdist] ").split("; see tfdist")[0]
    except errors.TfdistError as error:
        said = str(error)
    assert found(said), said


def test_what_another_keras_is_told_is_found() -> None:
    assert found(refusal("4.0.0", []) or "")


def test_a_text_of_nobody_is_not_found() -> None:
    assert not found("something that tfdist never says, whatever happens")
