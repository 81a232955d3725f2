"""The alternatives that are compared, and the two groups that they are compared in."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping

__all__ = ["BASELINES", "GROUPS", "VARIANTS", "Variant"]

WORKERS, ONE, MIRRORED = "workers", "one", "mirrored"

GROUPS: Mapping[str, str] = {
    WORKERS: "{workers} workers, 1 thread each",
    ONE: "one process, one device, 1 thread",
    MIRRORED: "one process, mirrored on 2 logical CPUs, 2 threads",
}
"""What is measured together, turn by turn; the texts head the tables."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to train the same model on the same data.

    Attributes:
        name: what `--variants` takes.
        label: its name in tables and plots.
        group: one of `GROUPS`.
        module: the module of this package that runs it.
        way: what that module is asked for.
        needs: the modules that must be installed.
        environ: variables of its processes.
    """

    name: str
    label: str
    group: str
    module: str
    way: str
    needs: tuple[str, ...] = ()
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def local_replicas(self) -> int:
        """Replicas in one process, each with a thread of its own."""
        return 2 if self.group == MIRRORED else 1

    def missing(self) -> list[str]:
        """The modules that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


_LEGACY = {"TF_USE_LEGACY_KERAS": "1"}
_JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("tfdist_fit", "tfdist fit", WORKERS, "keras3", "tfdist_fit"),
        Variant(
            "tfdist_fit_bfloat16",
            "tfdist fit, bfloat16 gradients",
            WORKERS,
            "keras3",
            "tfdist_fit_bfloat16",
        ),
        Variant("tfdist_fit_jit", "tfdist fit, jit_compile", WORKERS, "keras3", "tfdist_fit_jit"),
        *(
            Variant(
                f"tfdist_fit_virtual_{count}",
                f"tfdist fit, {count} virtual replicas",
                WORKERS,
                "keras3",
                f"tfdist_fit_virtual_{count}",
            )
            for count in (4, 8)
        ),
        Variant("hand_loop", "hand-written, in-graph loop", WORKERS, "keras3", "loop"),
        Variant("hand_step", "hand-written, 1 step a call", WORKERS, "keras3", "step"),
        Variant("tf_keras_fit", "tf_keras fit", WORKERS, "legacy", "1", ("tf_keras",), _LEGACY),
        Variant(
            "tf_keras_fit_20",
            "tf_keras fit, 20 steps an execution",
            WORKERS,
            "legacy",
            "20",
            ("tf_keras",),
            _LEGACY,
        ),
        Variant("keras_jax", "Keras 3 fit on JAX", WORKERS, "on_jax", "", ("jax",), _JAX),
        Variant("torch_ddp", "torch DDP, gloo", WORKERS, "ddp", "", ("torch",)),
        Variant("one_tfdist_fit", "tfdist fit", ONE, "keras3", "tfdist_fit"),
        Variant("one_hand_loop", "hand-written, in-graph loop", ONE, "keras3", "loop"),
        Variant("one_keras_fit", "Keras 3 fit", ONE, "keras3", "keras_fit"),
        Variant("mirrored_tfdist_fit", "tfdist fit", MIRRORED, "keras3", "tfdist_fit"),
        Variant("mirrored_hand_loop", "hand-written, in-graph loop", MIRRORED, "keras3", "loop"),
        Variant("mirrored_keras_fit", "Keras 3 fit", MIRRORED, "keras3", "keras_fit"),
    )
}

BASELINES = {WORKERS: "hand_loop", ONE: "one_hand_loop", MIRRORED: "mirrored_hand_loop"}
"""What each group's step times are set against."""
