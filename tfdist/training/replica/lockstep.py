"""Virtual replicas: several replicas of a process that has one device, traced side by side.

Each has a thread of its own, as the replicas of a MirroredStrategy have, and its own rows of the
batch; all write into one graph and into one copy of the variables. They take turns: one goes on
until it needs the others (a sum over the replicas, a write that all make), and waits; when all have
come there, what they want is written once for all of them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import tensorflow as tf

from tfdist.compat import tf_graphs
from tfdist.compat.tf_threads import Place, ThreadState
from tfdist.errors import PlugError
from tfdist.strategies.layout import ReplicaLayout
from tfdist.structures import Gradient, T
from tfdist.training.replica.ordered_sum import OrderedSum
from tfdist.training.replica.python_state import PythonState, Saved

__all__ = ["Lockstep"]

R = TypeVar("R")


class _Stopped(BaseException):
    """Another replica has failed: this one need not go on."""


class _Context(tf.distribute.ReplicaContext):
    """What a step is told of the replica that takes it; the real one has the variables."""

    def __init__(self, strategy: tf.distribute.Strategy, layout: ReplicaLayout, here: int) -> None:
        super().__init__(strategy, layout.worker)
        self._virtual_replica = layout.first + here
        self._replicas = layout.replicas

    @property
    def replica_id_in_sync_group(self) -> tf.Tensor:
        """The virtual one's."""
        return tf.constant(self._virtual_replica, tf.int32)

    @property
    def num_replicas_in_sync(self) -> int:
        """All of the job, the virtual ones."""
        return self._replicas

    def _merge_call(self, merge_fn: object, args: object, kwargs: object) -> NoReturn:
        raise PlugError(
            "merge_call in a step with virtual_replicas: these share their variables, and have no "
            "values to merge; use all_reduce, or leave virtual_replicas out"
        )


class _Replica(threading.Thread):
    """One replica's thread."""

    def __init__(self, name: str, run: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._run_all = run
        self.may_go = threading.Semaphore(0)
        self.has_stopped = threading.Semaphore(0)
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.python: Saved = []
        self.what: object = None
        self.brought: Any = None
        self.together: Callable[[list[Any]], Any] | None = None
        self.place: Place | None = None
        self.stopped = False

    def run(self) -> None:
        self.may_go.acquire()
        try:
            if not self.stopped:
                self.result = self._run_all()
        except _Stopped:
            pass
        except BaseException as error:  # told by whoever has started us
            self.error = error
        finally:
            self.done = True
            self.has_stopped.release()


class Lockstep:
    """The virtual replicas of this process, while their step is traced.

    Args:
        strategy: the strategy whose one replica this process has.
        add_up: sums what they bring over all processes; knows which replicas there are.
        python: what each leaves in the model.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, add_up: OrderedSum, python: PythonState
    ) -> None:
        self._strategy = strategy
        self._python = python
        self._layout = add_up.layout
        self._add_up = add_up
        self._state: ThreadState | None = None
        self._threads: list[_Replica] = []

    def run(self, function: Callable[..., T], args: Sequence[Sequence[object]]) -> list[T]:
        """Runs a function for every replica of this process, in its context.

        Args:
            function: takes a replica's arguments.
            args: those of each.

        Returns:
            What the function has returned for each.
        """
        layout = self._layout
        state = self._state = ThreadState()

        def replica(i: int) -> Callable[[], T]:
            context = _Context(self._strategy, layout, i)

            def run() -> T:
                with state.entered(context, f"replica_{i}/"):
                    return function(*args[i])

            return run

        self._threads = [
            _Replica(f"tfdist-replica-{layout.first + i}", replica(i)) for i in range(layout.local)
        ]
        before = self._python.save()
        for thread in self._threads:
            thread.python = before
            thread.start()
        try:
            while not self._all_have_gone_on():
                self._together()
        finally:
            for thread in self._threads:
                if not thread.done:
                    thread.stopped = True
                    thread.may_go.release()
            for thread in self._threads:
                thread.join()
        return [thread.result for thread in self._threads]

    def _all_have_gone_on(self) -> bool:
        """Has each replica go on to where it waits next; returns whether all have ended."""
        for thread in self._threads:
            if len(self._threads) > 1:
                self._python.restore(thread.python)
            thread.may_go.release()
            thread.has_stopped.acquire()
            if thread.error is not None:
                raise thread.error
            if len(self._threads) > 1:
                thread.python = self._python.save()
        first, *others = self._threads
        if any((one.done, one.what) != (first.done, first.what) for one in others):
            raise PlugError(
                "a step with virtual_replicas in which one replica sums or writes what another does"
                " not: what a step does must not depend on which replica takes it"
            )
        return first.done

    def _together(self) -> None:
        """Does once what all wait for."""
        leader = self._threads[0]
        assert leader.place is not None
        assert leader.together is not None
        with leader.place.entered():
            result = leader.together([thread.brought for thread in self._threads])
        for thread in self._threads:
            thread.brought = result

    # ------------------------------------------------------------ in a replica's thread

    def meet(self, what: object, brought: T, together: Callable[[list[T]], R]) -> R:
        """Waits for the other replicas, and returns what one of them makes of all they bring.

        Args:
            what: is the same on all, or they do not do the same.
            brought: this replica's.
            together: takes what each has brought, in the order of the replicas.
        """
        thread = threading.current_thread()
        assert isinstance(thread, _Replica)
        assert self._state is not None
        if not self._state.is_here():
            raise PlugError(
                "a write or a sum over the replicas in a tf.cond, a tf.while_loop or a tf.function "
                "within a step, which virtual_replicas cannot write once for all: move it out "
                "of there, or leave virtual_replicas out"
            )
        thread.what, thread.brought, thread.together = what, brought, together
        thread.place = Place()
        thread.has_stopped.release()
        thread.may_go.acquire()
        if thread.stopped:
            raise _Stopped
        return thread.brought

    def once(self, what: object, action: Callable[[], T]) -> T:
        """Has one of the replicas do, when all have come, what each of them would.

        Args:
            what: the object that it is done to.
            action: does it.
        """
        return self.meet(("once", id(what)), action, lambda actions: actions[0]())

    def sum_of_processes(self, read: Callable[[int, int], list[tf.Tensor]]) -> list[tf.Tensor]:
        """Sums what each process has once.

        Args:
            read: returns it, when all have come; takes the process' number and how many there are.
        """
        own = functools.partial(read, self._layout.worker, self._layout.workers)
        reads = self.meet("read", own, lambda reads: self._add_up.over_processes(reads[0]()))
        return list(reads)

    def sum(self, values: Sequence[Gradient]) -> list[Gradient]:
        """Sums tensors, or sparse gradients, over all replicas of the job, in one order.

        What flows back through it is summed likewise.
        """
        dense = [i for i, value in enumerate(values) if not isinstance(value, tf.IndexedSlices)]
        sums = list(values)
        if dense:
            for i, found in zip(dense, self._sum_dense([values[i] for i in dense]), strict=True):
                sums[i] = found
        if len(dense) < len(sums):
            rest = [i for i in range(len(sums)) if i not in set(dense)]
            found = self.meet(("sparse", len(rest)), [values[i] for i in rest], self._add_up.sparse)
            for i, one in zip(rest, found, strict=True):
                sums[i] = one
        return sums

    def _sum_dense(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        values = [tf.convert_to_tensor(value) for value in values]
        kinds = [(value.dtype, str(value.shape)) for value in values]
        return tf_graphs.recorded(
            "SumOverVirtualReplicas",
            values,
            lambda: self.meet(("sum", *kinds), values, self._add_up.dense),
            lambda *flow: self._sum_dense(list(flow)),
        )
