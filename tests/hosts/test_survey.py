"""What hosts must have alike, what goes along, and how messages are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdist.errors import ClusterError
from tfdist.launch.hosts.carried import carried, told_of_host
from tfdist.launch.hosts.frames import MARK, FrameReader, frame
from tfdist.launch.hosts.survey import Survey, arguments_that_are_paths

COMMAND = ["train.py", "--epochs", "3"]
HERE = Survey({"Python": "3.11", "tfdist": "1.0", "TensorFlow": "2.21", "Keras": "3.15"}, "digest")


def there(script: str = "digest", **versions: str) -> Survey:
    return Survey({**HERE.versions, **versions}, script)


def test_a_host_like_this_one_has_no_faults() -> None:
    assert there().faults("b", HERE, COMMAND) == []


@pytest.mark.parametrize(
    ("survey", "said"),
    [
        (there(TensorFlow="2.20"), "host b has TensorFlow 2.20, and TensorFlow 2.21 is here;"),
        (there(Keras=""), "host b has no Keras, and Keras 3.15 is here;"),
        (there(Python="3.12"), "host b has Python 3.12, and Python 3.11 is here;"),
        (there(tfdist="0.9"), "host b has tfdist 0.9, and tfdist 1.0 is here;"),
        (there(""), "host b has no script train.py; put it there, as it is here"),
        (there("other"), "host b has another script train.py than is here; copy it anew"),
    ],
)
def test_what_differs_is_named_with_its_host(survey: Survey, said: str) -> None:
    (fault,) = survey.faults("b", HERE, COMMAND)
    assert fault.startswith(said)


def test_a_module_that_nobody_can_look_up_is_no_fault() -> None:
    assert there("").faults("b", dataclasses.replace(HERE, script=""), ["-m", "odd"]) == []
    assert there("").faults("b", HERE, ["-m", "odd"]) == [
        "host b has no module odd; put it there, as it is here"
    ]


def test_this_machine_is_surveyed_without_importing_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("1")
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__", "__main__", "part"):
        (package / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    script = Survey.here(["train.py"], ["train.py", "data.csv"])
    assert script.missing == ("data.csv",)
    assert script.versions["TensorFlow"] != ""
    assert Survey.from_tree(script.to_tree()) == script
    digests = [
        Survey.here(command).script
        for command in (["-m", "package"], ["-m", "package.part"], ["-m", "package.no"], ["no.py"])
    ]
    assert digests[0] != digests[1]
    assert "" not in digests[:2]
    assert digests[2:] == ["", ""]


def test_arguments_that_are_files_here_are_looked_for_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").touch()
    command = ["train.py", "--data=data.csv", "--epochs", "3", "data.csv", "--out", "new"]
    assert arguments_that_are_paths(command) == ["data.csv", "data.csv"]


def test_settings_go_along_but_not_who_this_process_is() -> None:
    environ = {
        "TF_NUM_INTEROP_THREADS": "2",
        "TFDIST_STALL_TIMEOUT": "9",
        "PYTHONPATH": "lib",
        "TF_CONFIG": "{}",
        "TFDIST_SECRET": "x" * 16,
        "TFDIST_TASK": "worker:1",
        "PATH": "/bin",
        "MINE": "too",
    }
    kept = {"TF_NUM_INTEROP_THREADS": "2", "TFDIST_STALL_TIMEOUT": "9", "PYTHONPATH": "lib"}
    assert carried(environ) == kept
    assert carried(environ, ["MINE", "NEW=a=b"]) == {**kept, "MINE": "too", "NEW": "a=b"}
    assert "TFDIST_SECRET" not in told_of_host(environ)
    with pytest.raises(ClusterError, match="--env NONE, which is not set here; give NAME=VALUE"):
        carried(environ, ["NONE"])


@given(
    data=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    size=st.integers(1, 50),
    noise=st.binary(max_size=20).filter(lambda noise: b"\0" not in noise),
)
def test_frames_are_read_whole_wherever_they_are_cut(
    data: list[bytes], size: int, noise: bytes
) -> None:
    stream = noise + MARK + b"".join(frame({"say": "x", "n": n}, one) for n, one in enumerate(data))
    reader = FrameReader(after_mark=True)
    read = []
    for at in range(0, len(stream), size):
        read += reader.feed(stream[at : at + size])
    assert read == [({"say": "x", "n": n}, one) for n, one in enumerate(data)]


@pytest.mark.parametrize("data", [b"\xff" * 8, frame({"say": "x"})[:8] + b"not JSON here."])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="message"):
        FrameReader(after_mark=False).feed(data)


def test_much_noise_before_the_mark_is_no_agent() -> None:
    reader = FrameReader(after_mark=True)
    with pytest.raises(ValueError, match="too much that is no message"):
        reader.feed(b"x" * (1 << 21))
