"""What can make N workers differ from one process: what tries it, its words, and its cure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tfdist.diagnose.verify.change_names import (
    ALL_TO_ONE,
    ALONE,
    DRAWS_STILL,
    FIXED_ENTROPY,
    FIXED_HASHES,
    LAYERS_STILL,
    NO_OWN_SUMS,
    PLAIN_OPTIONS,
    SAME_RANK,
    SYNCHRONIZED,
    WITHOUT,
)
from tfdist.diagnose.verify.comparison import (
    AFTER,
    BEFORE,
    END,
    GRADIENT,
    LAYER,
    METRIC,
    RESULT,
    ROWS,
    Comparison,
    Difference,
)
from tfdist.diagnose.verify.gathered import Gathered

__all__ = [
    "DRAWS",
    "Cause",
    "Changes",
    "cause_of",
    "of_rows_read_twice",
    "tries",
    "tries_to_repeat",
]

Changes = tuple[str, ...]

_OWN_CODE = "see docs/own-code.md"
_ASKS = ("reads ", "asks ")
_ENTROPY = ("draws what no seed fixes", "reads the clock or an id of the process")
DRAWS = "draws by tf.random"
_SUMS = "sums over replicas"
_OPTIONS = "gives plug options that change the results"


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a program differs.

    Attributes:
        kind: short, the same for all causes of this kind, as "batch normalization".
        what: in one sentence.
        shown_by: the experiment that has shown it.
        lines: of the user's program, where they are known.
        cure: what to do.
    """

    kind: str
    what: str
    shown_by: str
    lines: tuple[str, ...]
    cure: str


def tries(first: Difference, one: Gathered, many: Gathered) -> Iterator[str]:
    """The changes to try for a difference, the likeliest first, each once.

    Args:
        first: the first difference.
        one: the run in one process.
        many: the run on workers.
    """
    given: set[str] = set()
    for change in _likely(first, one, many):
        if change not in given:
            given.add(change)
            yield change


def tries_to_repeat(one: Gathered) -> Iterator[str]:
    """The changes to try where one process does not do the same twice, the likeliest first.

    Args:
        one: the run in one process.
    """
    yield FIXED_ENTROPY
    if any(note.what == DRAWS for note in one.notes):
        yield DRAWS_STILL
    yield FIXED_HASHES
    yield from (f"{WITHOUT}{name}" for name in one.first.callbacks)
    yield LAYERS_STILL


def _likely(first: Difference, one: Gathered, many: Gathered) -> Iterator[str]:
    notes = [note.what for note in (*one.notes, *many.notes)]
    asks = any(what.startswith(_ASKS) for what in notes)
    normalizes = "BatchNormalization" in one.first.kinds.values()
    callbacks = [f"{WITHOUT}{name}" for name in one.first.callbacks]
    if _OPTIONS in notes:
        yield PLAIN_OPTIONS
    if first.stage == LAYER:
        kind = one.first.kinds.get(first.name, "")
        if kind == "BatchNormalization":
            yield SYNCHRONIZED
        if DRAWS in notes:
            yield DRAWS_STILL
        if kind.startswith(("Random", "Gaussian", "Spatial")) or "Dropout" in kind:
            yield LAYERS_STILL
    if (first.stage == BEFORE and first.step > 1) or (first.stage == END and many.steps):
        yield from callbacks
    if first.stage in (GRADIENT, AFTER) and DRAWS in notes:
        yield DRAWS_STILL
    if first.stage in (GRADIENT, AFTER, METRIC) and _SUMS in notes:
        yield NO_OWN_SUMS
    if any(what in notes for what in _ENTROPY):
        yield FIXED_ENTROPY
    if asks:
        yield SAME_RANK
        yield ALONE
    if first.stage in (LAYER, GRADIENT, AFTER, METRIC):
        yield ALL_TO_ONE
    if first.stage not in (LAYER, GRADIENT):
        yield from callbacks
    if first.stage in (ROWS, BEFORE) or first.stage == END:
        yield FIXED_HASHES
    if normalizes:
        yield SYNCHRONIZED
    yield from callbacks
    if DRAWS in notes:
        yield DRAWS_STILL
    if _SUMS in notes:
        yield NO_OWN_SUMS
    yield LAYERS_STILL
    yield ALL_TO_ONE


def cause_of(change: str, found: Comparison, one: Gathered, many: Gathered, workers: int) -> Cause:
    """Returns what a change has shown by taking a difference away.

    Args:
        change: the one.
        found: the difference that is gone with it.
        one: the run in one process, without the change.
        many: the run on the workers, without it.
        workers: how many.
    """
    first = found.first
    assert first is not None
    line = one.first.lines.get(first.name, "")
    lines = (line,) if line else ()
    if change == SYNCHRONIZED:
        named = _layers(one, "BatchNormalization")
        return Cause(
            "batch normalization",
            f"{named} normalizes by each worker's own rows, not by the whole batch",
            "with synchronized=True it is equal",
            _lines_of(one, "BatchNormalization"),
            "give BatchNormalization synchronized=True, or take GroupNormalization",
        )
    if change == LAYERS_STILL:
        return Cause(
            "random layers",
            "a random layer draws other numbers on the workers",
            "with Dropout, noise and augmentation layers that return their inputs it is equal",
            lines,
            "give the layer a seed, and make it inside of the model",
        )
    if change == DRAWS_STILL:
        return Cause(
            "tf.random in a step",
            "tf.random draws in the step, which has a state of its own on each worker",
            "with draws that stand still it is equal",
            _noted((one, many), (DRAWS,)),
            "draw by keras.random with a keras.random.SeedGenerator, or tf.random.stateless_*: "
            "these are drawn by row of the global batch",
        )
    if change == FIXED_ENTROPY:
        return Cause(
            "numbers that no seed fixes",
            "the program draws numbers that are others in each process (the system's entropy, the "
            "clock, a process id)",
            "with these fixed it is equal",
            _noted((many, one), _ENTROPY[:1]) or _noted((many, one), _ENTROPY),
            "give the generator a seed, the same on all workers",
        )
    if change == FIXED_HASHES:
        return Cause(
            "the order of a set",
            "the program depends on the hashes of texts (the order of a set, hash()), which are "
            "others in each process",
            "with one PYTHONHASHSEED it is equal",
            (),
            "sort what comes out of a set (sorted(set(words))), or take zlib.crc32 for hash",
        )
    if change == NO_OWN_SUMS:
        return Cause(
            "a sum of one's own over replicas",
            "the program sums over replicas what tfdist has summed already",
            "with its own sums left out it is equal",
            _noted((many,), (_SUMS,)),
            "leave the all_reduce out: gradients of tape.gradient are the global batch's",
        )
    if change == PLAIN_OPTIONS:
        return Cause(
            "options of plug",
            "tfdist.plug is given local_steps or a gradient_dtype, which change the results on "
            "purpose",
            "without these options it is equal",
            _noted((many, one), (_OPTIONS,)),
            "nothing is wrong; leave the options out to have one process' numbers",
        )
    if change.startswith(WITHOUT):
        name = change.removeprefix(WITHOUT)
        return Cause(
            f"callback {name}",
            f"the callback {name} does something else on the workers than in one process",
            f"without {name} it is equal",
            tuple(filter(None, [one.first.lines.get(f"callback {name}", "")])),
            "have the callback do the same on all workers, by the logs that it is given; only what "
            "writes or prints may be the chief's alone (chief_only = True)",
        )
    if change == SAME_RANK:
        return Cause(
            "a branch on the rank",
            "the program does something else on one worker than on another",
            "where all workers take themselves for the first, it is equal",
            _noted((many,), _ASKS),
            "do the same on all workers; only printing and writing files may be the chief's alone",
        )
    if change == ALONE:
        return _of_the_number(first, one, many, workers)
    return _across_rows(found, one, lines)


def _of_the_number(first: Difference, one: Gathered, many: Gathered, workers: int) -> Cause:
    """What comes of a program's knowing how many workers there are."""
    lines = _noted((many,), _ASKS)
    shown = "where each worker takes itself for the only one, it is equal"
    rows = [len(run.steps[0].marks) if run.steps else 0 for run in (one, many)]
    if first.stage == ROWS and rows[1] > rows[0]:
        return Cause(
            "a batch that grows with the workers",
            f"the program makes its batch from the number of workers: {rows[0]} rows a step in one "
            f"process, {rows[1]} on {workers} workers",
            shown,
            lines,
            "a batch size is always the global batch's: give the same, whatever their number is; "
            "if the larger batch is wanted, nothing is wrong",
        )
    if first.stage in (ROWS, END):
        return Cause(
            "data shared out by the program",
            "the program shares out its data itself, by its rank or the number of workers",
            shown,
            lines,
            "leave out the shard: every worker gives fit the whole data, and tfdist shares out "
            "each batch; or give fit a function of tf.distribute.InputContext",
        )
    rate = first.stage in (BEFORE, AFTER) and "learning_rate" in first.name
    return Cause(
        "the number of workers",
        ("its learning rate is" if rate else "what it computes is")
        + " made from the number of workers, or the rank",
        shown,
        lines,
        "tfdist's batch is the global one, so that nothing need be scaled: leave the factor out; "
        "if it is wanted, nothing is wrong",
    )


def _across_rows(found: Comparison, one: Gathered, lines: tuple[str, ...]) -> Cause:
    """What comes of each worker's having some rows of the batch only."""
    first = found.first
    assert first is not None
    shown = "where one worker computes all rows, it is equal"
    ratios = [d.ratio for d in found.differences if d.stage == GRADIENT]
    named = first.name
    if first.stage == LAYER:
        return Cause(
            "a layer that looks across the batch",
            f"the layer {named!r} ({one.first.kinds.get(named, '')}) returns something else for "
            "some rows of a batch than for all",
            shown,
            lines,
            f"have it compute by row, or from tfdist.gather_batch(x); {_OWN_CODE}",
        )
    if ratios and None not in ratios:
        ratio = ratios[0] or 0.0
        return Cause(
            "the scale of the loss",
            f"every gradient is {ratio:.4g} times one process': the loss is a sum over the rows "
            "that is divided by a constant, or multiplied, so that nobody can tell it from a mean",
            shown,
            _of_loss(one),
            "take the mean over the rows (tf.reduce_mean), or a keras.losses.Loss with "
            f'reduction="sum"; {_OWN_CODE}',
        )
    if ratios:
        return Cause(
            "a loss across the batch",
            "the loss of some rows is no part of the loss of all (negatives of the batch, ranks, "
            "correlations, a division by what the batch itself holds)",
            shown,
            _of_loss(one),
            f"compute it from tfdist.gather_batch(...) of what the model returns; {_OWN_CODE}",
        )
    if first.stage in (AFTER, BEFORE):
        return Cause(
            "state that a step writes",
            f"{named} is written in the step from each worker's own rows",
            shown,
            lines or _of_loss(one),
            'declare how it is brought together (aggregation="sum" for counts), or write what '
            f"tfdist.gather_batch(...) makes the same everywhere; {_OWN_CODE}",
        )
    if first.stage in (METRIC, RESULT):
        short = named.rpartition(": ")[2].removeprefix("val_")
        line = one.first.lines.get(short, "")
        return Cause(
            "a metric that does not add up",
            f"the metric {short!r} keeps a state that is no sum over rows",
            shown,
            (line,) if line else (),
            "keep sums in its variables and divide in result(), or declare their aggregation; "
            f"{_OWN_CODE}",
        )
    return Cause(
        "how the rows are shared out",
        f"{first.stage} {named} depends on which rows a worker has",
        shown,
        lines,
        _OWN_CODE,
    )


def of_rows_read_twice(count: int, many: Gathered) -> Cause:
    """Returns the cause that two workers have read the same rows."""
    return Cause(
        "rows read twice",
        f"{count} rows were read by two workers in the same step",
        "the rows of all workers were compared",
        _noted((many,), ("reads its own data",)),
        "have the function of tf.distribute.InputContext return this worker's part: "
        "dataset.shard(context.num_input_pipelines, context.input_pipeline_id), before batch",
    )


def _noted(runs: Sequence[Gathered], what: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of notes that begin so, once each."""
    notes = [note for run in runs for note in run.notes]
    lines = [note.line for note in notes if note.what.startswith(what) and note.line]
    return tuple(dict.fromkeys(lines))


def _layers(one: Gathered, kind: str) -> str:
    names = [name for name, own in one.first.kinds.items() if own == kind]
    return kind if len(names) != 1 else f"{kind} {names[0]!r}"


def _lines_of(one: Gathered, kind: str) -> tuple[str, ...]:
    names = [name for name, own in one.first.kinds.items() if own == kind]
    return tuple(dict.fromkeys(filter(None, (one.first.lines.get(name) for name in names))))


def _of_loss(one: Gathered) -> tuple[str, ...]:
    """Where the model's loss, or its step, is written."""
    lines = [one.first.lines.get(name, "") for name in ("the loss", "the step")]
    return tuple(dict.fromkeys(filter(None, lines)))
