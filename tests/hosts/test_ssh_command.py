"""What is said to the SSH client, and what its failures mean."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tfdist.errors import ClusterError
from tfdist.launch.hosts.ssh_command import remote_command, ssh_command, trouble_of


def test_nobody_is_asked_anything_and_the_host_is_no_option() -> None:
    command = ssh_command("ssh -F 'my config'", "a", "true")
    assert command[:3] == ["ssh", "-F", "my config"]
    assert command[-3:] == ["--", "a", "true"]
    never = {"BatchMode=yes", "StrictHostKeyChecking=yes", "ControlPath=none", "RemoteCommand=none"}
    assert never < {*command}


@pytest.mark.parametrize("ssh", ["", "ssh 'unclosed"])
def test_what_is_no_client_is_refused(ssh: str) -> None:
    with pytest.raises(ClusterError, match="--ssh"):
        ssh_command(ssh, "a", "true")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_folder_and_a_path_with_all_signs_come_through(shell: str) -> None:
    odd = 'it\'s $HOME `x` "y" \\n !z'
    command = remote_command("/bin/echo", "/", {"PYTHONPATH": odd}).replace(
        "exec /bin/echo", 'exec sh -c "printenv PYTHONPATH" -- '
    )
    ran = subprocess.run([shell, "-c", command], capture_output=True, text=True, check=True)
    assert ran.stdout == odd + "\n"
    missing = remote_command("/bin/true", f"/{odd}", {})
    assert subprocess.run([shell, "-c", missing], check=False).returncode == 93


@pytest.mark.parametrize(
    ("code", "said", "sentence", "lasts"),
    [
        (255, "ssh: Could not resolve hostname b: Name or service", "a name that is not known", 1),
        (255, "ssh: connect to host b port 22: Connection refused", "start sshd there", 0),
        (255, "ssh: connect to host b port 22: No route to host", "does not answer: is it up", 0),
        (255, "ssh: connect to host b port 22: Connection timed out", "does not answer", 0),
        (255, "me@b: Permission denied (publickey).", "does not let this user in", 1),
        (255, "Host key verification failed.", "connect once by hand, ssh b true", 1),
        (
            255,
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "another host key than it had",
            1,
        ),
        (255, "kex_exchange_identification: Connection closed", "closes the connection", 0),
        (255, "conf: line 2: Bad configuration option: x", "reached: conf: line 2: Bad conf", 0),
        (93, "", "has no folder /job", 1),
        (127, "sh: 1: exec: /py: not found", "has no Python at /py", 1),
        (1, "/py: No module named tfdist", "has no such tfdist for /py", 1),
        (1, "ModuleNotFoundError: No module named 'tfdist.launch.hosts'", "no such tfdist", 1),
        (
            1,
            "Traceback\nOSError: [Errno 28] No space left",
            "has ended (exit code 1): OSError",
            1,
        ),
        (None, "", "its agent has ended", 1),
    ],
)
def test_each_trouble_is_one_sentence_that_names_the_host(
    code: int | None, said: str, sentence: str, lasts: int
) -> None:
    trouble = trouble_of("b", code, said, python="/py", folder="/job")
    assert trouble.text.startswith("host b")
    assert sentence in trouble.text
    assert "\n" not in trouble.text
    assert trouble.lasts == bool(lasts)


def test_a_host_in_advice_can_be_pasted_into_a_shell() -> None:
    text = trouble_of("%h", 255, "Host key verification failed.", python="p", folder="f").text
    assert shlex.quote("%h") in text
