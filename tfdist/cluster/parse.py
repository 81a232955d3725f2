"""Reads TF_CONFIG: from JSON text to the jobs and the task that it names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tfdist.cluster.task import JOBS, Task, canonical_job, index_from, nearest
from tfdist.errors import ClusterError

__all__ = ["parse_config"]

_TOP = ("cluster", "task")
# Written by platforms and by TensorFlow's own old estimators, read by nothing here.
_TOP_IGNORED = (
    "environment",
    "rpc_layer",
    "job",
    "cloud",
    "trial",
    "service",
    "session_master",
    "eval_session_master",
    "model_dir",
)
_TASK = ("type", "index")
_TASK_IGNORED = ("trial", "cloud", "environment")
_SPARSE = ("sparsecluster", "sparse_cluster")


def parse_config(config: object, *, task_required: bool) -> tuple[Mapping[str, Any], Task | None]:
    """Reads a cluster spec in the form of TF_CONFIG.

    Args:
        config: JSON text, or the object it stands for.
        task_required: Whether a spec without a task is refused.

    Returns:
        The jobs as they are written, for `Cluster` to check, and the task.

    Raises:
        ClusterError: It is not JSON, or a key is unknown, missing or given twice.
    """
    spec = _loads(config) if isinstance(config, (str, bytes)) else config
    if isinstance(spec, str) and spec.lstrip().startswith("{"):
        raise ClusterError(f"JSON within a string, {_shown(spec)}; write the object, quoted once")
    if not isinstance(spec, Mapping):
        raise ClusterError(
            f"{_shown(spec)} where an object belongs; write "
            '{"cluster": {"worker": [...]}, "task": {"type": "worker", "index": 0}}'
        )
    for key in spec:
        if str(key).lower() in _SPARSE:
            raise ClusterError(
                f"sparse cluster (the key {key!r}); list the addresses of all tasks under "
                "'cluster', in the order of their indices"
            )
    _refuse_unknown(spec, _TOP, _TOP_IGNORED, "key")
    if "cluster" not in spec:
        raise ClusterError("no key 'cluster'; map each job to its addresses under 'cluster'")
    jobs = spec["cluster"]
    if not isinstance(jobs, Mapping):
        raise ClusterError(
            f"{_shown(jobs)} for 'cluster' where an object belongs; map each job to its list "
            'of addresses, as in {"worker": ["10.0.0.2:2222"]}'
        )
    return jobs, _task(spec.get("task"), required=task_required)


def _task(given: object, *, required: bool) -> Task | None:
    form = 'write "task": {"type": "worker", "index": 0}'
    if given is None or given == {}:
        if required:
            raise ClusterError(f"no task; say which one of the cluster this process is: {form}")
        return None
    if not isinstance(given, Mapping):
        raise ClusterError(f"{_shown(given)} for 'task' where an object belongs; {form}")
    _refuse_unknown(given, _TASK, _TASK_IGNORED, "key in 'task':")
    for key in _TASK:
        if given.get(key) is None:
            raise ClusterError(f"no {key!r} in 'task'; {form}")
    try:
        return Task(canonical_job(given["type"]), index_from(given["index"]))
    except ClusterError as error:
        raise ClusterError(f"in 'task': {error}") from None


def _refuse_unknown(
    given: Iterable[object], known: tuple[str, ...], ignored: tuple[str, ...], what: str
) -> None:
    for key in given:
        if key not in known and key not in ignored:
            if key in JOBS or key == "master":
                raise ClusterError(
                    f"job {key!r} beside 'cluster'; name the jobs inside the object 'cluster'"
                )
            hint = nearest(key, known)
            raise ClusterError(
                f"unknown {what} {key!r}{hint}{' The' if hint else '; the'} keys are "
                f"{' and '.join(known)}"
            )


def _loads(text: str | bytes) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError:
        raise ClusterError("bytes that are not UTF-8; write the cluster spec in UTF-8") from None
    except json.JSONDecodeError as error:
        start = max(0, error.pos - 12)
        near = error.doc[start : error.pos + 12].strip()
        if error.doc.strip().endswith((".json", ".jsonl", ".yaml", ".yml")):
            raise ClusterError(
                f"the path {_shown(error.doc.strip())} for the cluster spec itself; write the "
                "spec, or give the path by TFDIST_CLUSTER or --cluster"
            ) from None
        cure = "write double quotes" if "'" in near else "mend it"
        raise ClusterError(
            f"text that is not JSON: {error.msg.lower()} at line {error.lineno}, column "
            f"{error.colno}, near {near!r}; {cure} there"
        ) from None
    except RecursionError:
        raise ClusterError("JSON nested too deep for a cluster spec") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ClusterError(f"key {key!r} given twice in one object; keep one of them")
        found[key] = value
    return found


def _shown(value: object) -> str:
    """Shows a value of JSON in a message, cut to a readable length."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
