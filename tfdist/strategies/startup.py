"""What every kind of strategy over several machines does first: its tasks meet."""

from __future__ import annotations

import platform

import keras
import tensorflow as tf

from tfdist import log, process
from tfdist.cluster import Cluster
from tfdist.machine.places import await_hosts
from tfdist.rendezvous.agreement import Agreement, meet, refusals_told
from tfdist.rendezvous.wording import some_of
from tfdist.strategies.one_machine import quiet_tensorflow
from tfdist.version import __version__

__all__ = ["come_together", "tell_who_is_here"]

_NAMES_SECONDS = 15.0  # at least, from a task's coming to its name's


def come_together(
    cluster: Cluster,
    deadline: float,
    kind: str,
    *,
    stay: bool = False,
    in_step: bool = False,
    cards: tuple[str, ...] | None = None,
) -> Agreement:
    """Checks the cluster and meets its other tasks.

    Args:
        cluster: the machines, with this process's own task.
        deadline: seconds to wait for the others.
        kind: the kind of strategy.
        stay: see `tfdist.rendezvous.agreement.meet`.
        in_step: see there, too.
        cards: see there, too.

    Raises:
        ClusterError: the spec does not fit this kind.
        RendezvousError: the tasks did not come together, or one's host has no name yet.
    """
    with refusals_told(cluster, kind):
        cluster.validate(kind, resolve=not process.names_come_late())
    quiet_tensorflow()
    versions = {
        "tfdist": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    agreement = meet(
        cluster,
        timeout=deadline,
        versions=versions,
        kind=kind,
        stay=stay,
        in_step=in_step,
        cards=cards,
        log=log.info,
    )
    if process.names_come_late():  # TensorFlow would not look again for half a minute
        await_hosts(cluster, max(deadline - agreement.waited, _NAMES_SECONDS))
    return agreement


def tell_who_is_here(cluster: Cluster, agreement: Agreement) -> None:
    """Logs that all tasks have come."""
    if not cluster.is_chief and process.current().launched:
        return  # one terminal for all tasks: the chief says it for them
    log.info(
        "all %d tasks are here, after %.1f s: %s",
        len(agreement.tasks),
        agreement.waited,
        some_of(agreement.tasks),
    )
