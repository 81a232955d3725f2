"""The alpha-beta model of synchronous training: what a step takes on N workers. Pure.

Gradients are summed on a ring (`scaling.ring`). Each worker keeps its batch: N workers train N
times the examples in a step, and the efficiency is a lone worker's step time over theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfdist.scaling.link import Link
from tfdist.scaling.ring import Ring

__all__ = ["Advice", "Network", "Split", "advise", "step_seconds"]

LOCAL_STEPS = 16
LARGER_BATCH = 4
WORTH_WHILE = 1.05
"""An option pays if it brings so much more examples a second."""


@dataclasses.dataclass(frozen=True)
class Network:
    """What an all-reduce costs on a network.

    Attributes:
        alpha: seconds of latency of one message.
        beta: bytes a second between two neighbours of the ring.
        overhead: the model's real all-reduce over what alpha and beta say of as many bytes.
    """

    alpha: float
    beta: float
    overhead: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta <= 0 or self.overhead <= 0:
            raise ValueError(f"{self}: alpha must be 0 or more, beta and overhead above 0")

    @classmethod
    def fitted(cls, workers: int, measured: Sequence[tuple[float, float]]) -> Network:
        """Fits alpha and beta to measured all-reduces, every one weighing the same.

        Args:
            workers: how many took part, at least 2.
            measured: pairs of bytes and seconds, of two sizes at least.

        Raises:
            ValueError: there are too few.
        """
        if workers < 2 or len({size for size, _ in measured}) < 2:
            raise ValueError("an all-reduce of two sizes between two workers is needed at least")
        # Least squares of the relative error: t = a x + b y with x messages and y bytes on a link.
        ring = Ring(Link(0.0, 1.0))
        rows = [(ring.messages(workers, s) / t, ring.sent(workers, s) / t) for s, t in measured]
        pp = sum(p * p for p, _ in rows)
        pq = sum(p * q for p, q in rows)
        qq = sum(q * q for _, q in rows)
        p1, q1 = (sum(row[i] for row in rows) for i in (0, 1))
        divisor = pp * qq - pq * pq
        alpha = (p1 * qq - q1 * pq) / divisor
        per_byte = (q1 * pp - p1 * pq) / divisor
        if alpha < 0:  # a network so slow that its latency is lost in the noise
            alpha, per_byte = 0.0, q1 / qq
        if per_byte <= 0:  # one so fast that the bytes are
            alpha, per_byte = p1 / pp, 1e-15
        return cls(alpha, 1 / per_byte)

    def all_reduce(self, workers: int, size: float) -> float:
        """Seconds of an all-reduce of `size` bytes between so many workers."""
        return Ring(self.link).seconds(workers, size)

    @property
    def link(self) -> Link:
        """What messages of the model's own gradients cost."""
        return Link(self.overhead * self.alpha, self.beta / self.overhead)

    def calibrated(self, workers: int, size: float, seconds: float) -> Network:
        """Returns this network with the overhead that a model's own all-reduce has shown."""
        plain = dataclasses.replace(self, overhead=1.0).all_reduce(workers, size)
        return dataclasses.replace(self, overhead=seconds / plain) if plain and seconds else self


@dataclasses.dataclass(frozen=True)
class Split:
    """Where the seconds of a step go on one worker.

    Attributes:
        compute: what is left of the graph's: forward, backward and update, and waiting for whoever
            is slower.
        all_reduce: exchanging gradients, as long as it takes by itself.
        input: the input pipeline, as long as it takes by itself; what the computing hides of it is
            missing in `compute`.
        python: between two chunks: callbacks, progress bar, reading the metrics.
    """

    compute: float
    all_reduce: float
    input: float
    python: float

    @property
    def total(self) -> float:
        """Seconds of a step."""
        return self.compute + self.all_reduce + self.input + self.python

    @property
    def alone(self) -> float:
        """Seconds of a step of a worker that need not exchange anything."""
        return self.total - self.all_reduce

    @property
    def compute_at_most(self) -> float:
        """What computing takes where it hides all of the input, which is read ahead."""
        return self.compute + self.input


def step_seconds(split: Split, size: float, network: Network, workers: int) -> float:
    """Predicts the seconds of a step; `size` is the gradients', in bytes."""
    return split.alone + (network.all_reduce(workers, size) if workers > 1 else 0.0)


@dataclasses.dataclass(frozen=True)
class Advice:
    """What an option would bring.

    Attributes:
        option: as it is given to `plug`, `compile` or `fit`.
        faster: examples a second with it, over those without.
        why: in one sentence.
    """

    option: str
    faster: float
    why: str

    @property
    def pays(self) -> bool:
        """Whether it is worth while."""
        return self.faster >= WORTH_WHILE


def advise(split: Split, size: float, network: Network, workers: int) -> list[Advice]:
    """Says what each of the options would bring on so many workers, by the model.

    Args:
        split: of a step, as measured.
        size: bytes of the gradients.
        network: as measured.
        workers: how many, at least 2.
    """
    now = step_seconds(split, size, network, workers)
    exchange = now - split.alone
    half = step_seconds(split, size / 2, network, workers)
    rarely = split.alone + exchange / LOCAL_STEPS
    larger = (LARGER_BATCH * (split.compute + split.input) + split.python + exchange) / LARGER_BATCH
    compiled = now - split.compute / 2
    return [
        Advice(
            'tfdist.plug(model, gradient_dtype="bfloat16")',
            now / half,
            f"half the bytes: the all-reduce takes {1e3 * (half - split.alone):.2f} ms instead of "
            f"{1e3 * exchange:.2f}",
        ),
        Advice(
            f"tfdist.plug(model, local_steps={LOCAL_STEPS})",
            now / rarely,
            f"one exchange in {LOCAL_STEPS} steps; the results are no longer those of one machine",
        ),
        Advice(
            f"a batch {LARGER_BATCH} times as large",
            now / larger,
            f"the exchange is shared by {LARGER_BATCH} times the examples; the compute of an "
            "example is taken as it is, and the learning rate is yours to set",
        ),
        Advice(
            "model.compile(..., jit_compile=True)",
            now / compiled,
            "if XLA halves the compute, which only a try can tell: this is the most to hope for",
        ),
    ]
