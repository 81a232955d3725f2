"""What a process makes of the GPUs that it was given; TensorFlow is made to see some.

No GPU is needed: the calls by which TensorFlow tells of its devices are replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

from tests.machine.nvidia_smi import FIRST, MIXED, SECOND, TWO, put_on_path
from tfdist.compat import tf_collectives, tf_strategies
from tfdist.errors import StrategyError
from tfdist.rendezvous.cards import Holding
from tfdist.strategies import logical_devices, own_gpus
from tfdist.strategies.multi_worker import LocalGpusResolver, communication_for
from tfdist.strategies.strategy_options import Options
from tfdist.training.peers import packing

GPUS = [tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in range(2)]
CPU = tf.config.PhysicalDevice("/physical_device:CPU:0", "CPU")


class TensorFlow:
    """What TensorFlow is asked of devices, and what it is told."""

    def __init__(self, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = GPUS[:gpus]
        self.shown = list(self.seen)
        self.parts: dict[Any, list[Any]] = {}
        self.grows: list[Any] = []
        config = tf.config
        replace = monkeypatch.setattr
        replace(config, "list_physical_devices", lambda kind: [CPU] if kind == "CPU" else self.seen)
        replace(config, "get_visible_devices", lambda kind: self.shown)
        replace(config, "set_visible_devices", self.show)
        replace(config, "get_logical_device_configuration", self.parts.get)
        replace(config, "set_logical_device_configuration", self.parts.__setitem__)
        replace(config, "list_logical_devices", lambda kind=None: [])
        replace(config.experimental, "get_device_details", lambda gpu: {"device_name": "H100"})
        replace(config.experimental, "set_memory_growth", lambda gpu, _: self.grows.append(gpu))

    def show(self, gpus: list[Any], kind: str) -> None:
        assert kind == "GPU"
        self.shown = gpus


@pytest.fixture
def sees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], TensorFlow]:
    """Makes TensorFlow see so many of the two GPUs that this machine is made to have."""
    for name in ("TFDIST_GPUS_PER_TASK", "TFDIST_GPU_MEMORY"):
        monkeypatch.delenv(name, raising=False)
    put_on_path(tmp_path, monkeypatch, TWO, free=[f"{FIRST}, 80000", f"{SECOND}, 60000"])
    own_gpus._warn_once.cache_clear()
    return lambda gpus: TensorFlow(gpus, monkeypatch)


Sees = Callable[[int], TensorFlow]


# ---------------------------------------------------------------- workers on their GPUs


def devices_of_a_worker(resolver: Any) -> Any:
    """What TensorFlow's strategy of several workers makes of a resolver."""
    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    return extended._initialize_local_devices(None, resolver, "/job:worker/task:1")


def test_workers_compute_on_the_gpus_that_they_see(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tf.train.ClusterSpec({"worker": ["a:1", "b:1"]})
    settings = {"task_type": "worker", "task_id": 1, "rpc_layer": "grpc"}
    names = [f"/job:worker/replica:0/task:{task}/device:GPU:{n}" for task in (0, 1) for n in (0, 1)]
    there = [tf.config.LogicalDevice(name, "GPU") for name in names]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: there)
    tensorflows_own = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, **settings)
    assert devices_of_a_worker(tensorflows_own) == (("/job:worker/task:1/device:CPU:0",), "CPU")
    assert devices_of_a_worker(LocalGpusResolver(spec, **settings)) == (
        ("/job:worker/task:1/device:GPU:0", "/job:worker/task:1/device:GPU:1"),
        "GPU",
    )


@pytest.mark.parametrize(
    ("asked", "holding", "how"),
    [
        ("auto", "own", "nccl"),
        ("auto", "shared", "ring"),
        ("auto", "slices", "ring"),
        ("auto", "none", "ring"),
        ("ring", "own", "ring"),
        ("hierarchical", "own", "ring"),
        ("nccl", "own", "nccl"),
    ],
)
def test_gradients_travel_by_nccl_where_each_worker_has_gpus_of_its_own(
    asked: str, holding: Holding, how: str
) -> None:
    assert communication_for(asked, holding) == how


@pytest.mark.parametrize("holding", ["shared", "slices", "none"])
def test_nccl_that_cannot_be_had_is_refused(holding: Holding) -> None:
    with pytest.raises(StrategyError, match="communication='nccl', which needs a GPU for each"):
        communication_for("nccl", holding)


def test_integers_are_summed_in_a_type_that_gpus_add() -> None:
    devices = [f"CPU:{n}" for n in range(2)]
    strategy = tf.distribute.MirroredStrategy(devices)
    tf_collectives.separate_collectives(strategy)
    for _ in range(2):  # as two models of one strategy do
        tf_collectives.widen_integers(strategy, "CPU")

    def on_replica() -> list[tf.Tensor]:
        own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
        both = [2**30 * own + tf.range(3), tf.cast(own, tf.float32)]
        return packing.sum_over_replicas(both)

    function = tf.function(lambda: strategy.run(on_replica), autograph=False)
    with tf_strategies.without_merge_call(strategy):  # as steps are traced
        graph = function.get_concrete_function().graph
    kinds = [op.inputs[0].dtype for op in graph.get_operations() if "CollectiveReduce" in op.type]
    assert sorted({kind.name for kind in kinds}) == ["float32", "int64"]
    whole, real = (strategy.experimental_local_results(one)[0] for one in function())
    assert whole.dtype == tf.int32
    assert whole.numpy().tolist() == [2**30, 2**30 + 2, 2**30 + 4]
    assert real.numpy() == 1.0


# ---------------------------------------------------------------- given, and seen


def test_a_gpu_that_tensorflow_does_not_see_is_told_once(
    sees: Sees, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sees(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", FIRST)
    own_gpus.check_seen()
    own_gpus.check_seen()
    err = capfd.readouterr().err
    assert err.count("COMPUTING ON THE CPU") == 1
    assert f"may use {FIRST[:12]} (NVIDIA H100 80GB HBM3), but TensorFlow sees no GPU" in err
    assert f"CUDA_VISIBLE_DEVICES is {FIRST!r}" in err
    assert "tensorflow[and-cuda]" in err


@pytest.mark.parametrize("visible", ["-1", "", None])
def test_a_process_without_a_gpu_is_told_nothing(
    visible: str | None,
    sees: Sees,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sees(0)
    if visible is None:
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    own_gpus.check_seen()
    assert capfd.readouterr().err == ""


def test_a_task_that_sees_its_gpu_is_told_nothing(
    sees: Sees, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sees(1)
    monkeypatch.setenv("TFDIST_GPUS_PER_TASK", "1")
    own_gpus.check_seen()
    assert capfd.readouterr().err == ""


def test_gpus_that_were_asked_for_are_had_or_nothing_is_trained(
    sees: Sees, monkeypatch: pytest.MonkeyPatch
) -> None:
    sees(1)
    monkeypatch.setenv("TFDIST_GPUS_PER_TASK", "2")
    with pytest.raises(StrategyError, match=r"2 GPU\(s\) were asked for, but TensorFlow sees 1"):
        own_gpus.check_seen()


@pytest.mark.parametrize(("name", "text"), [("GPUS_PER_TASK", "all"), ("GPU_MEMORY", "0")])
def test_a_variable_that_is_no_number_is_refused(
    name: str, text: str, sees: Sees, monkeypatch: pytest.MonkeyPatch
) -> None:
    sees(1)
    monkeypatch.setenv(f"TFDIST_{name}", text)
    with pytest.raises(StrategyError, match=f"TFDIST_{name}='{text}': give"):
        own_gpus.check_seen()
        own_gpus.limit_memory()


class Strategy:
    """As much of a strategy as the log tells of."""

    def __init__(self, *devices: str) -> None:
        self.extended = self
        self.worker_devices = devices


def told(strategy: Any, chosen: bool, capfd: pytest.CaptureFixture[str]) -> str:
    own_gpus.tell_devices(strategy, chosen=chosen)
    return capfd.readouterr().err.partition("tfdist] ")[2]


def test_the_log_says_what_is_computed_on(sees: Sees, capfd: pytest.CaptureFixture[str]) -> None:
    sees(1)
    gpu, cpu = Strategy("/job:worker/task:0/device:GPU:0"), Strategy("/device:CPU:0")
    line = "computing on GPU:0; TensorFlow sees GPU:0 (H100)\n"
    assert told(gpu, False, capfd) == line
    assert told(cpu, True, capfd) == line.replace("on GPU:0", "on CPU:0")
    assert told(cpu, False, capfd).startswith(
        "COMPUTING ON THE CPU (CPU:0), although TensorFlow sees GPU:0 (H100): give device="
    )
    sees(0)
    assert told(cpu, False, capfd) == ""


# ---------------------------------------------------------------- ids


def test_a_process_names_its_gpus_as_all_hosts_would(sees: Sees) -> None:
    tensorflow = sees(2)
    assert own_gpus.ids() == (FIRST, SECOND)
    tensorflow.shown = GPUS[1:]
    assert own_gpus.ids() == (SECOND,)
    tensorflow.parts[GPUS[1]] = ["half", "half"]
    assert own_gpus.ids() == (SECOND, SECOND)
    sees(0)
    assert own_gpus.ids() == ()


def test_a_gpu_without_a_uuid_is_named_by_its_host(
    sees: Sees, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sees(1)
    monkeypatch.setattr("socket.gethostname", lambda: "node-1")
    assert own_gpus.ids() == ("node-1/0",)  # of the two that nvidia-smi tells, TensorFlow sees one
    put_on_path(tmp_path, monkeypatch, MIXED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert own_gpus.ids() == ("node-1/1",)
    monkeypatch.setenv("PATH", "/nowhere")
    assert own_gpus.ids() == ("node-1/1",)


# ---------------------------------------------------------------- memory and parts


def test_memory_is_limited_before_it_is_shared(sees: Sees, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow = sees(2)
    own_gpus.limit_memory()
    assert tensorflow.parts == {}
    own_gpus.share_memory()
    assert tensorflow.grows == GPUS
    monkeypatch.setenv("TFDIST_GPU_MEMORY", "9000")
    own_gpus.limit_memory()
    assert [parts[0].memory_limit for parts in tensorflow.parts.values()] == [9000, 9000]
    own_gpus.share_memory()
    assert tensorflow.grows == GPUS


def test_a_server_takes_its_first_gpu_or_none(sees: Sees, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow = sees(2)
    tensorflow.shown = GPUS[1:]
    monkeypatch.setenv("TFDIST_GPU_MEMORY", "9000")
    worker, ps = tf.compat.v1.ConfigProto(), tf.compat.v1.ConfigProto()
    own_gpus.limit_server(worker, computes=True)
    own_gpus.limit_server(ps, computes=False)
    assert worker.gpu_options.visible_device_list == "1"
    assert worker.gpu_options.experimental.virtual_devices[0].memory_limit_mb == [9000]
    assert "GPU" not in worker.device_count
    assert dict(ps.device_count) == {"GPU": 0}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "GPU"),
        ({"logical_devices": 2}, "GPU"),
        ({"logical_devices": "CPU:2"}, "CPU"),
        ({"logical_devices": 2, "device": "CPU:1"}, "CPU"),
        ({"logical_devices": 2, "devices": ("/cpu:0", "/cpu:1")}, "CPU"),
        ({"logical_devices": 2, "device": "GPU:1"}, "GPU"),
    ],
)
def test_the_gpu_is_cut_unless_the_cpu_is_named(
    options: dict[str, Any], kind: str, sees: Sees
) -> None:
    sees(1)
    assert logical_devices.in_use(Options(**options)) == kind
    sees(0)
    if not any("GPU" in str(one) for one in options.values()) and options:
        assert logical_devices.in_use(Options(**options)) == "CPU"


def test_the_first_gpu_is_cut_into_parts_of_its_free_memory(
    sees: Sees, capfd: pytest.CaptureFixture[str]
) -> None:
    tensorflow = sees(2)
    logical_devices.cut(Options(logical_devices=3))
    assert [part.memory_limit for part in tensorflow.parts[GPUS[0]]] == [24000] * 3
    assert tensorflow.shown == GPUS[:1]
    assert "GPU:0 (H100) is cut into 3 devices of 24000 MiB" in capfd.readouterr().err
    logical_devices.cut(Options(logical_devices="GPU:3"))  # done already
    assert capfd.readouterr().err == ""


def test_the_cpu_is_cut_where_there_is_a_gpu_and_the_log_says_so(
    sees: Sees, capfd: pytest.CaptureFixture[str]
) -> None:
    tensorflow = sees(1)
    logical_devices.cut(Options(logical_devices="CPU:2"))
    assert list(tensorflow.parts) == [CPU]
    assert tensorflow.shown == GPUS[:1]
    assert "the CPU is cut into 2 devices; the GPU is left alone" in capfd.readouterr().err


def test_a_gpu_of_unknown_memory_is_not_cut_by_guess(
    sees: Sees, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorflow = sees(1)  # while nvidia-smi tells of two
    with pytest.raises(StrategyError, match="nvidia-smi does not tell how much memory is free"):
        logical_devices.cut(Options(logical_devices=2))
    monkeypatch.setenv("TFDIST_GPU_MEMORY", "9001")
    logical_devices.cut(Options(logical_devices=2))
    assert [part.memory_limit for part in tensorflow.parts[GPUS[0]]] == [4500] * 2


def test_no_gpu_to_be_cut_is_refused(sees: Sees) -> None:
    sees(0)
    with pytest.raises(StrategyError, match="but TensorFlow sees no GPU: give logical_devices=2"):
        logical_devices.cut(Options(logical_devices="GPU:2"))


def test_without_a_strategy_there_are_no_gpus_of_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluator, say: TensorFlow's default strategy does not tell its devices."""
    monkeypatch.setattr(own_gpus, "visible", lambda: ["a GPU"])
    assert own_gpus.of_replicas(tf.distribute.get_strategy()) == ()
    assert own_gpus.of_replicas(tf.distribute.OneDeviceStrategy("CPU:0")) == ()
