"""The command `tfdist submit kubernetes`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from tfdist import command_line
from tfdist.errors import ClusterError
from tfdist.submit.dockerfile import Dockerfile
from tfdist.submit.kubectl import Kubectl
from tfdist.submit.kubernetes_job import KINDS, KubernetesJob
from tfdist.submit.pod import Pod
from tfdist.submit.telling import say, write
from tfdist.version import __version__

__all__ = ["kubernetes_parser", "main"]

_EXAMPLES = """\
examples: the script runs under `tfdist run`; its options go behind `run`
  tfdist submit kubernetes --image fit:1 --workers 2 --storage 10Gi train.py
  tfdist submit kubernetes --image fit:1 --workers 4 --ps 1 run --plug train.py
  tfdist submit kubernetes --dockerfile > Dockerfile
"""

_EPILOG = """\
What is at --mount outlives the job: train with a tfdist.callbacks.Checkpoint there, and a task that
was lost goes on where it was."""

_NOT_IN_A_POD = (
    *("--workers", "--ps", "--chief", "--evaluator", "--cluster", "--task", "--dry_run"),
    *("--grace", "--rendezvous_timeout", "--log_dir"),
    *("--hosts", "--python", "--env", "--ssh", "--rendezvous", "--nnodes", "--crew_port"),
    "--secure",  # a pod may make no namespaces
)
"""Options of `tfdist run` that the job's own stand for, or that start jobs over hosts."""


def main(given: Sequence[str], run: command_line.Parser) -> int:
    """Runs the command.

    Args:
        given: what follows `tfdist submit kubernetes`.
        run: reads the options of `tfdist run`.

    Returns:
        0, or the job's exit code where it was followed to its end.
    """
    parser = kubernetes_parser()
    own, command = parser.split(given)
    options = parser.parse_args(own)
    if options.dockerfile:
        if command:
            parser.error(f"--dockerfile with the script {command[0]}; it is of no use here")
        sys.stdout.write(_dockerfile(options).text())
        return 0
    if options.requirements:
        parser.error("--requirements without --dockerfile, which is what they are for")
    job = _job(parser, options, _checked(run, command))
    if options.dry_run:
        sys.stdout.write(job.text())
        return 0
    return _hand_in(job, options.detach)


def _checked(run: command_line.Parser, command: Sequence[str]) -> list[str]:
    """The script, after the options of `tfdist run`, where these are options of a pod's."""
    words = list(command[1:] if command[:1] == ["run"] else command)
    own, script = run.split(words)
    if getattr(run, "file", None) is not None:
        words = [*own, *script]  # what the file says: it need not be in the image
    run.check_script(script, is_here=False)
    run.parse_args(own)
    for word in own:
        name = word.partition("=")[0]
        name = f"--{name[2:].replace('-', '_')}" if name.startswith("--") else name
        if name in _NOT_IN_A_POD:
            raise ClusterError(
                f"run {name}; a pod is one task of the job: leave it out, and give what there is "
                "of it before the word run; see tfdist submit kubernetes --help"
            )
    return words


def _job(
    parser: command_line.Parser, options: argparse.Namespace, command: Sequence[str]
) -> KubernetesJob:
    if not options.image:
        parser.error("no --image; give the name of one with the script and tfdist")
    pod = Pod(
        image=options.image,
        command=command,
        python=options.python,
        cpus=options.cpus,
        memory=options.memory,
        gpus=options.gpus_per_task,
        gpu_resource=options.gpu_resource,
        claim=options.claim or (options.name if options.storage else ""),
        mount=options.mount,
        user=options.user,
        grace=options.grace,
        patience=options.rendezvous_timeout,
        variables=_pairs(parser, "--env", options.env),
        node_labels=_pairs(parser, "--node_label", options.node_label),
        pull_secret=options.pull_secret,
    )
    return KubernetesJob(
        pod,
        kind=options.kind,
        name=options.name,
        namespace=options.namespace,
        workers=options.workers,
        ps=options.ps,
        chief=options.chief,
        evaluator=options.evaluator,
        restarts=options.max_restarts,
        storage=options.storage,
        storage_class=options.storage_class,
        storage_access=options.storage_access,
        queue=options.queue,
    )


def _dockerfile(options: argparse.Namespace) -> Dockerfile:
    extra = "[and-cuda]" if options.gpus_per_task else ""
    versions = {name: metadata.version(name) for name in ("tensorflow", "keras")}
    return Dockerfile(
        f"{sys.version_info.major}.{sys.version_info.minor}",
        [f"tensorflow{extra}=={versions['tensorflow']}", f"keras=={versions['keras']}"],
        f"tfdist=={__version__}",
        options.requirements,
        options.user,
    )


def _hand_in(job: KubernetesJob, detach: bool) -> int:
    cluster = Kubectl(job.kind, job.name, job.namespace)
    cluster.submit(job)
    say(f"{job.kind} {job.name} of {job.pods} pods is handed in; what ends it: {cluster.deletion}")
    if not job.pod.claim:
        say("no --storage and no --claim: what its pods write is lost with them")
    if detach:
        return 0
    try:
        end = cluster.follow(write, say)
    except KeyboardInterrupt:
        say(f"{job.kind} {job.name} goes on")
        return 130
    say(f"{job.kind} {job.name} has ended: {end.why}, exit code {end.code}")
    return end.code


def _pairs(
    parser: command_line.Parser, option: str, texts: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    for text in texts:
        if "=" not in text:
            parser.error(f"{option} {text!r}; give it a value, as {option} NAME=VALUE")
    return tuple((name, value) for name, _, value in (text.partition("=") for text in texts))


def kubernetes_parser() -> command_line.Parser:
    """Returns the parser of `tfdist submit kubernetes`."""
    parser = command_line.Parser(
        prog="tfdist submit kubernetes",
        usage="tfdist submit kubernetes --image IMAGE [options] script.py ...",
        description="Write the manifests of a job, hand them in by kubectl, and show what its "
        "first task prints until it ends.",
        examples=_EXAMPLES,
        epilog=_EPILOG,
    )
    _add_tasks(parser)
    _add_resources(parser)
    _add_ends(parser)
    return parser


def _add_tasks(parser: command_line.Parser) -> None:
    number: dict[str, Any] = {"type": command_line.count, "metavar": "N"}
    what = parser.add_argument_group("what runs")
    parser.option(what, "--image", True, default="", metavar="IMAGE", help="with the script in it")
    parser.option(
        what,
        "--kind",
        True,
        default="job",
        metavar="KIND",
        help=f"{', '.join(KINDS)} (default: job)",
    )
    parser.option(what, "--name", default="tfdist", metavar="NAME", help="(default: tfdist)")
    parser.option(what, "--namespace", default="", metavar="NAME", help="(default: kubectl's)")
    parser.option(what, "--queue", default="", metavar="NAME", help="a LocalQueue of Kueue")
    parser.option(
        what, "--python", default="python", metavar="PATH", help="of the image (default: python)"
    )
    parser.option(
        what,
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of its processes; may be repeated",
    )
    tasks = parser.add_argument_group("its tasks, a pod each")
    parser.option(
        tasks, "--workers", "how many pods train (1)", default=1, help="(default: 1)", **number
    )
    parser.option(
        tasks, "--ps", True, default=0, help="parameter servers; they bring a chief", **number
    )
    parser.option(tasks, "--chief", action="store_true", help="a chief beside the workers")
    parser.option(tasks, "--evaluator", action="store_true", help="an evaluator beside them all")


def _add_resources(parser: command_line.Parser) -> None:
    number: dict[str, Any] = {"type": command_line.count, "metavar": "N"}
    each = parser.add_argument_group("what each pod asks for")
    parser.option(each, "--cpus", True, default="", metavar="CPUS", help="as 4, or 500m")
    parser.option(each, "--memory", True, default="", metavar="SIZE", help="as 8Gi")
    parser.option(
        each, "--gpus_per_task", "GPUs of each (0)", default=0, help="(default: 0)", **number
    )
    parser.option(
        each,
        "--gpu_resource",
        default="nvidia.com/gpu",
        metavar="NAME",
        help="(default: nvidia.com/gpu)",
    )
    parser.option(
        each,
        "--node_label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="run on nodes with that label alone; may be repeated",
    )
    parser.option(
        each, "--pull_secret", default="", metavar="NAME", help="a Secret for the image's registry"
    )
    parser.option(
        each, "--user", default=1000, help="the number of the user it runs as (1000)", **number
    )
    kept = parser.add_argument_group("what is kept")
    parser.option(
        kept,
        "--storage",
        True,
        default="",
        metavar="SIZE",
        help="a new PersistentVolumeClaim, as 10Gi",
    )
    parser.option(kept, "--storage_class", default="", metavar="NAME", help="of the new claim")
    parser.option(
        kept,
        "--storage_access",
        default="ReadWriteMany",
        metavar="MODE",
        help="of the new claim (default: ReadWriteMany, for pods on several nodes)",
    )
    parser.option(kept, "--claim", default="", metavar="NAME", help="one that there is, instead")
    parser.option(
        kept, "--mount", default="/checkpoints", metavar="DIR", help="where (/checkpoints)"
    )


def _add_ends(parser: command_line.Parser) -> None:
    number: dict[str, Any] = {"type": command_line.count, "metavar": "SECONDS"}
    how = parser.add_argument_group("how it starts and ends")
    parser.option(
        how,
        "--rendezvous_timeout",
        default=600,
        help="how long the tasks wait for each other at the start (default: 600)",
        **number,
    )
    parser.option(
        how,
        "--grace",
        default=120,
        help="how long a task may save when its pod is to end (default: 120)",
        **number,
    )
    parser.option(
        how,
        "--max_restarts",
        type=command_line.restarts,
        default=10,
        metavar="N",
        help="of each task of a job, or of all in a set, beside those of drained nodes (10)",
    )
    parser.option(how, "--detach", True, action="store_true", help="do not wait for its end")
    parser.option(how, "--dry_run", True, action="store_true", help="show the manifests, and exit")
    image = parser.add_argument_group("its image")
    parser.option(
        image, "--dockerfile", True, action="store_true", help="show a Dockerfile for it, and exit"
    )
    parser.option(
        image, "--requirements", default="", metavar="FILE", help="of pip, for the Dockerfile"
    )
