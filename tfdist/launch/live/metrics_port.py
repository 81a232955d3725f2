"""What Prometheus can ask of a job: its launcher's address, and the numbers there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from tfdist.cluster.address import Address
from tfdist.errors import LaunchError
from tfdist.launch.live.live_view import Watcher
from tfdist.progress import JobView

__all__ = ["MetricsPort"]

_STATES = ("starts", "trains", "lags", "waits", "busy", "silent", "ended", "failed")


class MetricsPort(Watcher, Collector):
    """Serves a job's numbers over HTTP, at `/metrics`.

    Args:
        at: the address; port 0 for one that the system picks.
    """

    def __init__(self, at: Address) -> None:
        self._at = at
        self._view: JobView | None = None
        self._restarts = 0
        self._server: Any = None

    def open(self, say: Callable[[str], None]) -> None:
        """See `Watcher`.

        Raises:
            LaunchError: there is nothing to listen at.
        """
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(
                self._at.port, addr=self._at.host, registry=registry
            )
        except OSError as error:
            raise LaunchError(
                f"no metrics at {self._at} ({(error.strerror or str(error)).lower()}); give "
                "another port with --metrics_port, or 0 for one that is free"
            ) from None
        say(f"metrics at http://{Address(self._at.host, self._server.server_port)}/metrics")

    def began(self, task: str, again: bool) -> None:
        """See `Watcher`."""
        self._restarts += again

    def look(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        self._view = view

    def close(self, view: JobView, now: float) -> None:
        """See `Watcher`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def describe(self) -> list[Any]:
        """Nothing is asked for as it is registered."""
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What there is, at this moment; called by another thread."""
        view = self._view  # one look: it is never changed
        restarts = CounterMetricFamily("tfdist_restarts", "Tasks that were started again.")
        restarts.add_metric([], self._restarts)
        yield restarts
        if view is None:
            return
        yield from self._of_tasks(view)
        record = view.record
        if record is None:
            return
        for name, text, value in (
            ("epoch", "The epoch, from 1.", record.epoch + 1),
            ("epochs", "How many there will be.", record.epochs),
            ("steps_of_all", "Steps that all epochs will have.", view.total),
            ("steps_per_second", "Of the last seconds.", view.steps_per_second),
            ("examples_per_second", "Of the last seconds.", view.examples_per_second),
            ("seconds_left", "To the end of the last epoch.", view.seconds_left),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"tfdist_{name}", text, value=value)
        steps = CounterMetricFamily("tfdist_steps", "Steps of all epochs of this fit.")
        steps.add_metric([], view.done)
        yield steps
        metric = GaugeMetricFamily("tfdist_metric", "What fit shows.", labels=["name"])
        for name, value in {**record.logs, **record.validation}.items():
            metric.add_metric([name], value)
        yield metric

    def _of_tasks(self, view: JobView) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        states = GaugeMetricFamily(
            "tfdist_task_state", "1 for the state that a task is in.", labels=["task", "state"]
        )
        seconds = CounterMetricFamily(
            "tfdist_phase_seconds", "Seconds of this fit, by phase.", labels=["task", "phase"]
        )
        for task in view.tasks:
            for state in _STATES:
                states.add_metric([task.name, state], float(task.state == state))
            if task.record is not None and task.record.fit:
                for phase, value in task.record.seconds.measured.items():
                    seconds.add_metric([task.name, phase], value)
        yield states
        yield seconds
