"""`tfdist verify` on real workers: a few programs by default, all of them with --thorough."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.verify.verified import EXAMPLES, SOUND, SOUND_KNOWN, asked_of, is_found, verify_all
from tfdist import cli
from tfdist.diagnose.verify.orders import Asked
from tfdist.diagnose.verify.verdict import DIFFERS, EQUAL, Verdict
from tfdist.diagnose.verify.verify_command import make_private, verify
from tfdist.errors import LaunchError

NOISY = """\
import random
import keras, numpy as np, tensorflow as tf
x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")

def noise():
    return np.float32(random.SystemRandom().gauss(0, 1))

def loss(y, p):
    drawn = tf.ensure_shape(tf.numpy_function(noise, [], tf.float32), [])
    return tf.reduce_mean((y + drawn - p) ** 2, -1)

layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((8,)), *layers])
model.compile(keras.optimizers.SGD(0.1), loss=loss)
model.fit(x, x[:, :1], batch_size=16, epochs=2, verbose=0)
"""

USUAL = ("unsynchronized batch normalization", "noise on the data", "convolutional")
"""Two faults and a sound program, in one job."""

PARTS = 7
"""In so many tests all programs are verified: a session ends where one test takes too long."""

LATE = """
import keras
import tensorflow as tf
import tfdist

keras.utils.set_random_seed(1)
data = tf.data.Dataset.from_tensor_slices((tf.ones((64, 4)), tf.ones((64, 1)))).batch(16)
strategy = tfdist.strategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
tfdist.plug(model)
model.fit(data)
"""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    return verify_all(asked_of(USUAL), tmp_path_factory.mktemp("usual"))


@pytest.mark.timeout(600)
def test_a_fault_is_found_with_its_line_and_cure(usual: dict[str, Verdict]) -> None:
    verdict = usual["unsynchronized batch normalization"]
    assert (verdict.found, verdict.code) == (DIFFERS, 2)
    assert verdict.first is not None
    assert (verdict.first.step, verdict.first.stage) == (1, "output of a layer")
    (cause,) = verdict.causes
    assert cause.kind == "batch normalization"
    assert cause.lines[0].startswith("faults_of_models.py, line ")
    assert "synchronized=True" in cause.cure


@pytest.mark.timeout(600)
def test_what_no_seed_fixes_is_found(usual: dict[str, Verdict]) -> None:
    (cause,) = usual["noise on the data"].causes
    assert cause.kind == "numbers that no seed fixes"
    assert cause.lines[0].endswith("in noise_of_no_seed")


@pytest.mark.timeout(600)
def test_a_sound_program_is_equal(usual: dict[str, Verdict]) -> None:
    verdict = usual["convolutional"]
    assert (verdict.found, verdict.code, verdict.causes) == (EQUAL, 0, ())
    assert verdict.largest is not None
    assert 0 < verdict.largest.size < 1e-5
    assert "equal to " in verdict.text()


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_seeded_fault_is_found_with_the_right_cause(part: int, tmp_path: Path) -> None:
    from tests.verify.seeded_fault import FAULTS

    verdicts = verify_all(asked_of(list(FAULTS)[part::PARTS]), tmp_path)
    wrong = {name: one.text() for name, one in verdicts.items() if not is_found(name, one)}
    assert len(FAULTS) >= 20
    assert len(verdicts) >= len(FAULTS) // PARTS
    assert wrong == {}


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_sound_program_raises_an_alarm(part: int, tmp_path: Path) -> None:
    names = [*SOUND, *EXAMPLES, *SOUND_KNOWN]
    verdicts = verify_all(asked_of(names[part::PARTS]), tmp_path)
    alarms = {name: one.text() for name, one in verdicts.items() if one.found != EQUAL}
    assert len(names) >= 50
    assert len(verdicts) >= len(names) // PARTS
    assert alarms == {}


def test_the_sound_programs_are_those_that_there_are() -> None:
    from tests.verify import sound_programs
    from tests.zoo.programs import PROGRAMS

    assert set(SOUND) == set(sound_programs.PROGRAMS)
    sound = {name for name, one in PROGRAMS.items() if one.verdict == "equal"}
    assert {name for name in sound if not name.startswith("keras_hub")} == set(SOUND_KNOWN)


def verified(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs `tfdist verify` on a script."""
    script = folder / "train.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "tfdist", "verify", "--json", *options, str(script)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.mark.timeout(120)
def test_a_script_that_fails_by_itself_is_told(tmp_path: Path) -> None:
    ran = verified(tmp_path, "import keras\nraise ValueError('no data here')\n")
    assert ran.returncode == 1, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["found"], told["exit_code"]) == ("unable", 1)
    assert told["failure"]["message"] == "no data here"
    assert told["failure"]["line"] == "train.py, line 2"


@pytest.mark.timeout(120)
def test_a_script_that_runs_on_workers_under_plug_alone_is_told(tmp_path: Path) -> None:
    ran = verified(tmp_path, LATE, "--steps", "2")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["found"], told["late"]) == ("equal", "train.py, line 8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no script"),
        (["--workers", "1", "train.py"], "--workers 1: one process is compared with 2 or more"),
        (["--steps", "0", "train.py"], "--steps 0: give at least 1, or all"),
        (["--steps", "few", "train.py"], "'few' is no whole number"),
        (["--ps", "1", "train.py"], "unknown option '--ps'"),
        (["nowhere.py"], "no script 'nowhere.py' here"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    assert cli.main(["verify", *arguments]) == 64
    assert says in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_chance_in_the_loss_is_not_taken_for_rounding(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(NOISY)
    ran = subprocess.run(
        [sys.executable, "-m", "tfdist", "verify", "--steps", "4", str(script)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert ran.returncode == 1, ran.stderr
    assert "cannot be compared: one process does not repeat itself" in ran.stdout
    assert "cause    numbers that no seed fixes" in ran.stdout
    assert "at       train.py, line 6" in ran.stdout


def test_a_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Asked(("train.py",))]
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(LaunchError, match=r"others may write there \(mode 777\)"):
        verify(asked, shared)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(LaunchError, match="belongs to another user"):
        verify(asked, tmp_path / "new")


def test_the_folder_is_this_users_alone(tmp_path: Path) -> None:
    readable = tmp_path / "readable"
    readable.mkdir(0o755)
    (readable / "old").touch()
    with pytest.raises(LaunchError, match="not empty"):
        verify([Asked(("train.py",))], readable)
    assert stat.S_IMODE(readable.stat().st_mode) == 0o755  # it is somebody's, and stays as it is
    (readable / "old").unlink()
    for folder in (readable, tmp_path / "new" / "folder"):
        make_private(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "wrong", [lambda: Asked(("a.py",), workers=1), lambda: Asked(("a.py",), steps=0)]
)
def test_what_cannot_be_asked_is_refused(wrong: Callable[[], Asked]) -> None:
    with pytest.raises(ValueError, match=r"(workers=1|steps=0): "):
        wrong()
