"""The versions of Keras that tfdist is tested with, and the sentence for any other."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["TESTED", "batches_count_anew", "refusal"]

TESTED = ("3.14", "3.15", "3.16")
"""By their first two numbers. Of 3.16 there is but a nightly, so pip installs those before it."""

_CURE = 'pip install "keras>=3.14,<3.16", or a tfdist that knows this Keras'
_SHOWN = 3
"""So many of the names that have moved are told; the others are counted."""


def refusal(version: str, moved: Sequence[str]) -> str | None:
    """Says why tfdist does not work with a Keras, in one sentence.

    Args:
        version: `keras.__version__`.
        moved: what is not where tfdist looks for it, each in a few words.

    Returns:
        The sentence, or None if the version is a tested one and nothing has moved.
    """
    numbers = version.split(".")[:2]
    tested = ".".join(numbers) in TESTED
    if tested and not moved:
        return None
    if _is_before(numbers, TESTED[0]):
        why = (
            f"before {TESTED[0]} activity regularizers are summed over a batch, so N replicas "
            "cannot equal one"
        )
    elif moved:
        more = [f"{len(moved) - _SHOWN} more"] if len(moved) > _SHOWN else []
        why = f"what tfdist uses of it has moved: {'; '.join([*moved[:_SHOWN], *more])}"
    else:
        why = "nothing that tfdist uses of it has moved, but nobody has tested it"
    known = f", and tfdist is tested with {', '.join(TESTED[:-1])} and {TESTED[-1]}"
    return f"Keras {version} is installed{'' if tested else known} ({why}): {_CURE}"


def batches_count_anew(version: str) -> bool:
    """Whether `train_on_batch` and `test_on_batch` set the metrics back first; 3.14's count on."""
    return not _is_before(version.split(".")[:2], "3.15")


def _is_before(numbers: Sequence[str], oldest: str) -> bool:
    try:
        return [int(number) for number in numbers] < [int(n) for n in oldest.split(".")]
    except ValueError:  # no version that anybody has released
        return False
