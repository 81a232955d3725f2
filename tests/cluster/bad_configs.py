"""Every mistake that a cluster spec can have, and what tfdist says of it.

`python -m tests.cluster.bad_configs` prints them as a Markdown table, with the time to the message.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfdist.cluster import Cluster
from tfdist.errors import ClusterError

WORKER = {"type": "worker", "index": 0}
ADDRESS = "127.0.0.1:41001"
OK = {"worker": [ADDRESS, "127.0.0.1:41002"]}
PS = "parameter_server"


@dataclass(frozen=True)
class BadConfig:
    """A mistake.

    Attributes:
        name: What is wrong.
        config: TF_CONFIG, as text or as an object; "{busy}" in it stands for a port in use.
        says: Parts of the message, in their order.
        kind: The strategy that it is checked for.
    """

    name: str
    config: Any
    says: tuple[str, ...]
    kind: str = "multi_worker_mirrored"

    def text(self, busy: int) -> str:
        """Returns TF_CONFIG with a real busy port in it."""
        text = self.config if isinstance(self.config, str) else json.dumps(self.config)
        return text.replace("{busy}", str(busy))


def spec(jobs: Any, task: Any = None, **more: Any) -> dict[str, Any]:
    """Returns a TF_CONFIG object with the given parts."""
    return {"cluster": jobs, "task": WORKER if task is None else task, **more}


def at(address: Any) -> dict[str, Any]:
    """Returns a TF_CONFIG object whose second worker has an address."""
    return spec({"worker": ["127.0.0.1:41001", address]})


CASES: tuple[BadConfig, ...] = (
    # The text.
    BadConfig(
        "not JSON",
        '{"cluster": {"worker": ["a:1" "b:1"]}}',
        ("TF_CONFIG: text that is not JSON", "line 1, column 31", '"b:1"'),
    ),
    BadConfig(
        "not JSON: Python's quotes", "{'cluster': {}}", ("column 2", "write double quotes there")
    ),
    BadConfig("not JSON: cut off", '{"cluster": {"worker": ["a:1"', ("not JSON", "column 30")),
    BadConfig("a list", '["a:1", "b:1"]', ('["a:1", "b:1"] where an object belongs',)),
    BadConfig("null", "null", ("null where an object belongs",)),
    BadConfig(
        "a key given twice",
        '{"cluster": {"worker": ["a:1"], "worker": ["b:1"]}}',
        ("key 'worker' given twice",),
    ),
    # The keys.
    BadConfig(
        "misspelt key cluster",
        {"clutser": OK, "task": WORKER},
        ("unknown key 'clutser'", "did you mean 'cluster'?"),
    ),
    BadConfig(
        "misspelt key task", {"cluster": OK, "tsak": WORKER}, ("'tsak'", "did you mean 'task'?")
    ),
    BadConfig("unknown key", spec(OK, zone="eu"), ("unknown key 'zone'", "cluster and task")),
    BadConfig("no cluster", {"task": WORKER}, ("no key 'cluster'",)),
    BadConfig("jobs beside cluster", {**OK, "task": WORKER}, ("job 'worker' beside 'cluster'",)),
    BadConfig("a list for cluster", spec([ADDRESS]), ("for 'cluster' where an object belongs",)),
    BadConfig("an empty cluster", spec({}), ("empty cluster", "on this machine alone")),
    BadConfig(
        "unknown job",
        spec({"wroker": OK["worker"]}),
        ("unknown job 'wroker'", "did you mean 'worker'?"),
    ),
    BadConfig(
        "sparse cluster (its own key)",
        {"sparseCluster": {"worker": {"1": ADDRESS}}, "task": WORKER},
        ("sparse cluster", "'sparseCluster'", "list the addresses"),
    ),
    BadConfig(
        "sparse cluster (an object of indices)",
        spec({"worker": {"0": ADDRESS}}),
        ("sparse cluster", "job worker", "list the addresses"),
    ),
    # The task.
    BadConfig("no task", {"cluster": OK}, ("no task", '"type": "worker"')),
    BadConfig("a string for task", spec(OK, "worker:0"), ("for 'task' where an object",)),
    BadConfig(
        "misspelt key in task",
        spec(OK, {"typ": "worker", "index": 0}),
        ("unknown key in 'task': 'typ'", "did you mean 'type'?"),
    ),
    BadConfig("task without type", spec(OK, {"index": 0}), ("no 'type' in 'task'",)),
    BadConfig("task without index", spec(OK, {"type": "worker"}), ("no 'index' in 'task'",)),
    BadConfig(
        "unknown type of task",
        spec(OK, {"type": "wokrer", "index": 0}),
        ("in 'task': unknown job 'wokrer'", "did you mean 'worker'?"),
    ),
    BadConfig(
        "task of a job that the cluster lacks",
        spec(OK, {"type": "chief", "index": 0}),
        ("task chief:0", "without the job chief", "it has worker"),
    ),
    BadConfig(
        "index out of range",
        spec(OK, {"type": "worker", "index": 2}),
        ("out of range: worker:2", "worker:0 to worker:1"),
    ),
    BadConfig(
        "negative index",
        spec(OK, {"type": "worker", "index": -1}),
        ("negative task index -1",),
    ),
    BadConfig(
        "negative index in a string",
        spec(OK, {"type": "worker", "index": "-1"}),
        ("negative task index -1",),
    ),
    BadConfig(
        "index that is no integer",
        spec(OK, {"type": "worker", "index": 0.5}),
        ("task index 0.5 that is not an integer",),
    ),
    BadConfig(
        "index that is a word",
        spec(OK, {"type": "worker", "index": "first"}),
        ("task index 'first' that is not an integer",),
    ),
    BadConfig(
        "index that is a truth value",
        spec(OK, {"type": "worker", "index": True}),
        ("task index True that is not an integer",),
    ),
    # The jobs.
    BadConfig(
        "two chiefs",
        spec({"chief": ["127.0.0.1:41003", "127.0.0.1:41004"], **OK}),
        ("2 tasks in the job chief", "one chief at most"),
    ),
    BadConfig(
        "chief and master",
        spec({"chief": ["127.0.0.1:41003"], "master": ["127.0.0.1:41004"], **OK}),
        ("both chief and master", "take one of them out"),
    ),
    BadConfig(
        "a string for a list", spec({"worker": ADDRESS}), ("string '127.0", f'["{ADDRESS}"]')
    ),
    BadConfig("a number for a list", spec({"worker": 2}), ("2 for the job worker", "list")),
    BadConfig("an empty list", spec({"worker": []}), ("empty list for the job worker",)),
    # The addresses.
    BadConfig(
        "duplicate address",
        spec({"worker": [ADDRESS, ADDRESS]}),
        ("worker:0 and worker:1 are both at 127.0.0.1:41001",),
    ),
    BadConfig(
        "duplicate address under two names",
        spec({"worker": [ADDRESS, "localhost:41001"]}),
        ("worker:0 and worker:1 are both at 127.0.0.1:41001 and localhost:41001",),
    ),
    BadConfig("no port", at("node-1"), ("worker:1: address 'node-1' without a port",)),
    BadConfig("an empty port", at("node-1:"), ("worker:1: address 'node-1:' without a port",)),
    BadConfig("a port that is a word", at("node-1:http"), ("port 'http', not a number",)),
    BadConfig("port 0", at("node-1:0"), ("with port 0", "1 to 65535")),
    BadConfig("port too high", at("node-1:70000"), ("with port 70000", "1 to 65535")),
    BadConfig(
        "http:// in an address",
        at("http://node-1:2222"),
        ("worker:1: address 'http://node-1:2222' with a scheme", "'node-1:2222'"),
    ),
    BadConfig("a path in an address", at("node-1:2222/"), ("port '2222/', not a number",)),
    BadConfig("a space in an address", at("node 1:2222"), ("host 'node 1', not a host name",)),
    BadConfig("no host", at(":2222"), ("host '', not a host name",)),
    BadConfig("IPv6 without brackets", at("fd00::2:2222"), ("too many colons", "[fd00::2]:2222")),
    BadConfig("an address that is a number", at(2222), ("address 2222 that is not a string",)),
    # The strategy.
    BadConfig(
        "ps under multi-worker mirrored",
        spec({**OK, "ps": ["127.0.0.1:41005"]}),
        ("ps in the cluster (2 workers, 1 ps)", "take the job ps out"),
    ),
    BadConfig(
        "no worker under multi-worker mirrored",
        spec({"evaluator": [ADDRESS]}, {"type": "evaluator", "index": 0}),
        ("no worker in the cluster (1 evaluator)",),
    ),
    BadConfig(
        "no ps under parameter server",
        spec({"chief": ["127.0.0.1:41003"], **OK}),
        ("no ps in the cluster (1 chief, 2 workers)",),
        PS,
    ),
    BadConfig(
        "no worker under parameter server",
        spec({"chief": [ADDRESS], "ps": ["127.0.0.1:41005"]}, {"type": "chief", "index": 0}),
        ("no worker in the cluster (1 chief, 1 ps)",),
        PS,
    ),
    BadConfig(
        "no chief under parameter server",
        spec({**OK, "ps": ["127.0.0.1:41005"]}),
        ("no chief in the cluster (2 workers, 1 ps)",),
        PS,
    ),
    BadConfig(
        "evaluator in a parameter-server cluster",
        spec(
            {
                "chief": ["127.0.0.1:41003"],
                **OK,
                "ps": ["127.0.0.1:41005"],
                "evaluator": ["127.0.0.1:41006"],
            }
        ),
        ("evaluator in the cluster", "tensorflow#46169", "take the job evaluator out"),
        PS,
    ),
    # The machine and the network.
    BadConfig(
        "own port in use",
        spec({"worker": ["127.0.0.1:{busy}", "127.0.0.1:41002"]}),
        ("port {busy} of worker:0", "in use by process"),
    ),
    BadConfig(
        "host that does not resolve",
        at("no-such-host.invalid:2222"),
        ("host 'no-such-host.invalid' of worker:1 that does not resolve",),
    ),
)


@contextlib.contextmanager
def a_busy_port() -> Iterator[int]:
    """A port that this process listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def try_out(case: BadConfig, busy: int) -> tuple[str | None, float]:
    """Reads and validates a bad config as a strategy does.

    Args:
        case: The mistake.
        busy: A port in use.

    Returns:
        The message, None where there is none, and the time to it in seconds.
    """
    start = time.perf_counter()
    try:
        cluster = Cluster.from_environment({"TF_CONFIG": case.text(busy)})
        assert cluster is not None
        cluster.validate(case.kind)
    except ClusterError as error:
        return str(error), time.perf_counter() - start
    return None, time.perf_counter() - start


def main() -> None:
    """Prints the table."""
    print("| mistake | message | ms |\n|---|---|---|")
    with a_busy_port() as busy:
        for case in CASES:
            message, seconds = try_out(case, busy)
            shown = (message or "(accepted)").replace("|", "\\|")
            print(f"| {case.name} | {shown} | {1000 * seconds:.1f} |")


if __name__ == "__main__":
    main()
