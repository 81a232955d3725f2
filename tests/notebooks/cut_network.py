"""Records what notebook 04 shows of a network that is cut, since a notebook cannot cut one.

    python -m tests.notebooks.cut_network          # as root: two hosts, which are namespaces

A worker and its launcher run on each of two hosts. When the fifth epoch begins, the cable of the
second is pulled, and put back later. It prints the notebook's `RECORDING`.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.recovery.watched_command import DEADLINE, WatchedCommand
from tfdist.diagnose.namespace_hosts import Hosts

__all__ = ["EPOCHS", "Recording", "record"]

EPOCHS = 8
CUT_AT = 4
"""In which epoch, counted from 0, the cable is pulled."""

SECONDS = 25.0
"""How long it stays out."""

STALL_TIMEOUT = 10

_ASIDE = re.compile(r"waiting for|all 2 tasks|training:|2 workers: starting")
"""What it says besides, at every start."""

_SAID = re.compile(r"tfdist\] (?:[\w.]+Error: )?(.*)$")


@dataclass(frozen=True)
class Recording:
    """A job whose network was cut.

    Attributes:
        cut: Seconds from the job's first epoch until the cable was pulled, and until it was back.
        epochs: Of each host, (seconds, epoch) for each epoch that it began, counted from 0.
        said: (seconds, host, sentence) of what tfdist has said on either, from the cut on.
        losses: Of each epoch, as the job ends.
        codes: The launchers' exit codes.
    """

    cut: tuple[float, float]
    epochs: tuple[list[tuple[float, int]], ...]
    said: list[tuple[float, int, str]]
    losses: list[float]
    codes: tuple[int, ...]

    def text(self) -> str:
        """Lines for the notebook."""
        rows = "\n".join(
            f"        ({at}, {host}, (\n{_quoted(said)}))," for at, host, said in self.said
        )
        epochs = "\n".join(f"        {_wrapped(one)}," for one in self.epochs)
        return (
            "RECORDING = {\n"
            f'    "cut": {list(self.cut)},\n'
            f'    "epochs": [\n{epochs}\n    ],\n'
            f'    "losses": {_wrapped(self.losses)},\n'
            f'    "said": [\n{rows}\n    ],\n'
            "}  # fmt: skip"
        )


def record() -> Recording:
    """Runs the job, cuts its network, and waits for its end; needs root."""
    with tempfile.TemporaryDirectory() as name, Hosts(2) as hosts:
        folder = Path(name)
        spec = folder / "spec.json"
        addresses = [f"{address}:2222" for address in hosts.addresses]
        spec.write_text(json.dumps({"cluster": {"worker": addresses}}))
        start = [sys.executable, "-m", "tfdist", "run", "--cluster", spec]
        start += ["--max_restarts", 1, "--stall_timeout", STALL_TIMEOUT]
        commands = [
            [*start, "--task", f"worker:{host}", __file__, folder / "checkpoints"]
            for host in range(2)
        ]
        secret = f"TFDIST_SECRET={secrets.token_hex(16)}"
        launchers = [
            WatchedCommand(hosts.on(host, ["env", secret, *command]), folder)
            for host, command in enumerate(commands)
        ]
        try:
            began = launchers[0].find("begins epoch 0", DEADLINE)
            launchers[0].find(f"begins epoch {CUT_AT}", DEADLINE)
            hosts.cut(1)
            cut = time.monotonic()
            time.sleep(SECONDS)
            hosts.mend(1)
            mended = time.monotonic()
            codes = tuple(one.end()[0] for one in launchers)
        finally:
            for one in launchers:
                one.kill()
    losses = re.findall(r"losses (\[.*\])", launchers[0].output)
    return Recording(
        cut=(round(cut - began, 1), round(mended - began, 1)),
        epochs=tuple(
            [(round(at - began, 1), epoch) for at, epoch in _epochs(one)] for one in launchers
        ),
        said=sorted(
            (round(at - began, 1), host, _without_paths(found[1], folder))
            for host, one in enumerate(launchers)
            for at, line in one.lines
            if at > cut and (found := _SAID.search(line)) and not _ASIDE.match(found[1])
        ),
        losses=json.loads(losses[-1]) if losses else [],
        codes=codes,
    )


def _wrapped(numbers: Sequence[object]) -> str:
    return "\n         ".join(textwrap.wrap(json.dumps(numbers), 80))


def _quoted(text: str) -> str:
    lines = textwrap.wrap(text, 78, drop_whitespace=False)
    return "            " + "\n            ".join(map(json.dumps, lines))


def _without_paths(sentence: str, folder: Path) -> str:
    sentence = re.sub(r" \((Python stacks: |process \d)[^)]*\)", "", sentence)
    return sentence.replace(f"{folder}/", "")


def _epochs(launcher: WatchedCommand) -> list[tuple[float, int]]:
    lines = [(at, re.search(r"begins epoch (\d+)", line)) for at, line in launcher.lines]
    return [(at, int(found[1])) for at, found in lines if found]


def train(checkpoints: str) -> None:
    """The training of the notebook, with a second's sleep in each epoch."""
    import keras
    from sklearn.datasets import load_digits

    import tfdist

    digits = load_digits()
    images = (digits.images / 16).astype("float32").reshape(-1, 64)
    strategy = tfdist.strategy()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.layers.Input((64,)),
                keras.layers.Dense(32, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.SGD(learning_rate=0.2),
            loss="sparse_categorical_crossentropy",
        )
    tfdist.plug(model)

    def begin(epoch: int, logs: object) -> None:
        print("begins epoch", epoch, flush=True)
        time.sleep(1)

    history = model.fit(
        images,
        digits.target,
        batch_size=128,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[
            tfdist.callbacks.Checkpoint(checkpoints),
            keras.callbacks.LambdaCallback(on_epoch_begin=begin),
        ],
    )
    if tfdist.is_chief():
        print("losses", json.dumps([round(loss, 7) for loss in history.history["loss"]]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(sys.argv[1])
    else:
        recording = record()
        print(recording.text())
        print("# exit codes:", recording.codes)
