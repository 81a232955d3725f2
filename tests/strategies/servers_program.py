"""A chief that runs an op on each server, then ends as its first argument says."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import tensorflow as tf
from absl import app

from tfdist.cluster import Cluster
from tfdist.errors import PlugError
from tfdist.machine.ports import Reservation
from tfdist.strategies.servers import meet_as_chief, serve

KIND = "parameter_server"


def main(end: str) -> None:
    """Serves, or coordinates and ends well, with an error or not at all."""
    cluster = Cluster.from_environment()
    assert cluster is not None
    assert cluster.task is not None
    if not cluster.is_chief:
        serve(cluster, 60.0, KIND)
    agreement = meet_as_chief(cluster, 60.0, KIND)
    jobs = {job: list(addresses) for job, addresses in cluster.jobs.items()}
    with Reservation(1) as held:
        jobs["chief"] = [f"127.0.0.1:{held.ports[0]}"]
        tf.config.experimental_connect_to_cluster(
            tf.train.ClusterSpec(jobs), job_name="chief", protocol="grpc"
        )
    for task in cluster.tasks[1:]:
        with tf.device(f"/job:{task.type}/replica:0/task:{task.index}/device:CPU:0"):
            print(f"on {task}: {float(tf.reduce_sum(tf.ones((64, 64)) @ tf.ones((64, 64))))}")
    sys.stdout.flush()
    if end == "error":
        raise ValueError("shapes differ")
    if end == "refused":
        raise PlugError("no such model")
    if end == "return":  # a worker has been killed: wait until it is back
        assert agreement.membership is not None
        worker = cluster.tasks[1]
        deadline = time.monotonic() + 60
        while agreement.membership.times(worker) < 2 or agreement.membership.absent():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    if end == "sleep":
        Path("sleeps").touch()
        time.sleep(100)


if __name__ == "__main__":
    if sys.argv[1] == "absl":
        app.run(lambda argv: main(argv[1]))
    main(sys.argv[1])
