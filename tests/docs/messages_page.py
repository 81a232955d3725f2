"""docs/messages.md, the page on which every message is found by its text."""

from __future__ import annotations

import html
import re
from pathlib import Path

from tests.docs.messages import Message, every_message
from tests.docs.pages import DOCS
from tfdist import errors

_HEAD = """# Every message

Search this page for a few words of the message that you see. What tfdist fills in (names, numbers,
addresses) is left out (…). The second column is the end of the message itself, or more where the
message says too little. Behind each class of errors stands its [exit code](errors.md#exit-codes).

The page is made from the source, and a test fails where a message is not on it, or has no cure.
Messages of Python, Keras and TensorFlow themselves are not here; those that distributed training
meets most are among the [questions](faq.md).
"""
_ROOMS = (
    ("Cluster specs, tasks and addresses", "clusters.md", "cluster environments process"),
    ("The tasks come together, and stay", "running.md", "rendezvous machine"),
    ("Several hosts", "hosts.md", "launch/hosts launch/nodes launch/crew"),
    ("Secure jobs", "secure.md", "launch/secure"),
    ("tfdist run", "running.md", "launch cli command_line run_parser host_options exits"),
    ("Slurm and Kubernetes", "kubernetes.md", "submit"),
    ("Strategies and devices", "strategies/index.md", "strategies schedules/pipeline_plan"),
    ("Checkpoints", "checkpoints.md", "training/checkpointing training/loop/saving callbacks"),
    ("Data", "data.md", "training/data"),
    (
        "Parameter servers and embeddings",
        "strategies/parameter-servers.md",
        "training/parameter_server training/embeddings",
    ),
    ("Pipelines", "strategies/pipeline.md", "training/pipelined training/slot schedules pipeline"),
    ("Workers that differ", "differences.md", "training/peers"),
    ("Options of plug", "options.md", "training/plug_options"),
    ("Models and steps", "own-code.md", "training compat"),
    ("A plan", "planning.md", "planning"),
    ("The doctor, chaos and bench", "doctor.md", "diagnose bench scaling"),
    ("Elsewhere", "errors.md", ""),
)
"""Headings, the page to read more on, and where in tfdist/ their messages are; the first fits."""


def cures() -> dict[str, str]:
    """What cures.txt says, by the text of the message."""
    text = (Path(__file__).parent / "cures.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
    return {what: told.strip() for what, told in zip(lines[::2], lines[1::2], strict=True)}


def cure(message: Message) -> str:
    """What the second column says; "" where the message says it, or is passed on."""
    return _CURES.get(message.text, "")


_CURES = cures()


def missing() -> list[Message]:
    """The messages that nobody has said a cure for."""
    return [
        one for one in every_message() if not (one.is_passed_on() or one.parts()[1] or cure(one))
    ]


def rendered() -> str:
    """The whole page."""
    rooms: dict[str, list[Message]] = {heading: [] for heading, _, _ in _ROOMS}
    for message in every_message():
        if not message.is_passed_on():
            rooms[_heading(message)].append(message)
    parts = [_HEAD, '\n<div class="messages" markdown>\n']
    for heading, guide, _ in _ROOMS:
        if rooms[heading]:
            lines = list(dict.fromkeys(map(_row, rooms[heading])))
            parts.append(f"\n## {heading}\n\nMore: [{_title(guide)}]({guide}).\n\n")
            parts.append("| you see | what to do | error |\n|---|---|---|\n")
            parts.append("\n".join(lines) + "\n")
    parts.append("\n</div>\n")
    return "".join(parts)


def _heading(message: Message) -> str:
    file = message.file.removeprefix("tfdist/")
    for heading, _, prefixes in _ROOMS:
        if not prefixes or any(file.startswith(prefix) for prefix in prefixes.split()):
            return heading
    raise AssertionError(file)


def _title(guide: str) -> str:
    return (DOCS / guide).read_text().splitlines()[0].removeprefix("# ")


def _row(message: Message) -> str:
    what, to_do = message.parts()
    code = getattr(errors, message.error).exit_code
    told = cure(message) or _shown(to_do)
    return f"| {_shown(what)} | {told} | `{message.error}` ({code}) |"


def _shown(text: str) -> str:
    """A text in which Markdown finds nothing of its own."""
    text = html.escape(re.sub(r"\s+", " ", text), quote=False)
    return re.sub(r"([*_`\[\]\\~^=+$#|])", lambda found: f"&#{ord(found[1])};", text)
