"""`tfdist version`: all that a report of a fault needs, and nothing that is private."""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.environments import slurm_step
from tfdist import cli
from tfdist.diagnose.installation import Installation
from tfdist.version import __version__


def test_the_version_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"tfdist {__version__}"
    assert f"Keras {metadata.version('keras')}".lower() in second.lower()


def test_a_report_says_all_that_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tfdist"] == __version__
    assert report["python"]["version"] == sys.version.split()[0]
    assert report["packages"]["tensorflow"] == metadata.version("tensorflow")
    assert report["packages"]["keras"] == metadata.version("keras")
    assert report["platform"]["cores"] >= 1
    assert {*report} == {
        *("tfdist", "python", "platform", "packages", "gpus", "gpu_driver", "gpu_trouble"),
        *("environment", "variables"),
    }
    assert report["variables"]["KERAS_BACKEND"] == "tensorflow"


def test_what_is_private_is_left_out() -> None:
    environ = {
        "HOME": "/home/ann",
        "TFDIST_SECRET": "s3cret",
        "TFDIST_SECRET_FILE": "/home/ann/s3cret",
        "SLURM_JOB_USER": "s3cret",
        "SLURM_JOB_ACCOUNT": "s3cret",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "https_proxy": "http://ann:s3cret@proxy:3128",
        "TF_EXTRA": "--token=s3cret --level=2",
        "TFDIST_SSH": "ssh -i /home/ann/.ssh/id -l root",
        "PYTHONPATH": "/home/ann:/home/anna/x:/home/ann/y",
        "MY_OWN": "s3cret",
    }
    variables = Installation(environ).variables()
    assert "s3cret" not in json.dumps(variables)
    assert variables["TFDIST_SECRET"] == "(redacted)"
    assert variables["https_proxy"] == "http://(redacted)@proxy:3128"
    assert variables["TF_EXTRA"] == "--token=(redacted) --level=2"
    assert variables["TFDIST_SSH"] == "ssh -i ~/.ssh/id -l root"
    assert variables["PYTHONPATH"] == "~:/home/anna/x:~/y"
    assert not {"MY_OWN", "HOME", "AWS_SECRET_ACCESS_KEY"} & {*variables}


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, {"name": None, "tasks": None, "task": None, "error": None}),
        (
            slurm_step.SECOND_OF_TWO,
            {"name": "Slurm", "tasks": "2 worker", "task": "worker:1", "error": None},
        ),
    ],
)
def test_the_environment_is_told(environ: dict[str, str], told: dict[str, str | None]) -> None:
    assert Installation(environ).report()["environment"] == told


def test_an_environment_that_cannot_be_read_is_told() -> None:
    told = Installation({"TF_CONFIG": '{"clutser": {}}'}).report()["environment"]
    assert told["name"] == "TF_CONFIG"
    assert "did you mean 'cluster'?" in told["error"]


def test_gpus_and_what_keeps_them_from_being_seen_are_told(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\n")
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    report = Installation(environ).report()
    assert (report["gpus"], report["gpu_trouble"]) == (["NVIDIA H100"], "")
    program.write_text("#!/bin/sh\necho 'driver mismatch'; exit 18\n")
    report = Installation(environ).report()
    assert report["gpus"] == []
    assert "driver mismatch" in report["gpu_trouble"]
