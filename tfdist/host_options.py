"""The options of `tfdist run` for a job on several hosts, over SSH."""

from __future__ import annotations

import argparse

from tfdist.command_line import Parser, count, port

__all__ = ["NOT_SECURE", "SSH_VARIABLE", "add_options", "check_options"]

SSH_VARIABLE = "TFDIST_SSH"
"""The SSH client, where --ssh does not say."""

NOT_SECURE = "# without the tunnels of --secure\n"
"""Before the commands of a dry run, which can be pasted into a shell."""


def add_options(parser: Parser) -> None:
    """Adds the options of a job on several hosts.

    Args:
        parser: That of `tfdist run`.
    """
    group = parser.add_argument_group("a job on several hosts, over SSH")
    parser.option(
        group,
        "--hosts",
        "start workers on these hosts, over SSH",
        metavar="A,B,...",
        help="which hosts, as a,b or node[1-4], or a file with one a line, and slots=N behind it; "
        "each has the script, the data and the same versions (default: a worker on each)",
    )
    parser.option(
        group,
        "--python",
        metavar="PATH",
        help="the Python interpreter on each host (default: the path of this one)",
    )
    parser.option(
        group,
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable that goes along, beside those of TensorFlow, Keras, tfdist and Python; "
        "may be given several times",
    )
    parser.option(
        group,
        "--ssh",
        metavar="COMMAND",
        help="the SSH client, as 'ssh -F FILE' (default: TFDIST_SSH, else ssh)",
    )
    same = parser.add_argument_group("a job on several hosts, by the same command on each")
    parser.option(
        same,
        "--rendezvous",
        metavar="HOST:PORT",
        help="where the launchers meet, at one of the hosts; --workers is then for each host, and "
        "the ports are chosen by the system",
    )
    parser.option(same, "--nnodes", type=count, metavar="N", help="how many launchers there are")
    parser.option(
        same,
        "--crew_port",
        type=port,
        metavar="PORT",
        help="where launchers that decide together meet, at the chief's host (default: the one of "
        "--rendezvous, else the port after the highest of the tasks there)",
    )


def check_options(parser: Parser, options: argparse.Namespace) -> None:
    """Refuses options that do not go together.

    Args:
        parser: That of `tfdist run`.
        options: What it has read.
    """
    _check_rendezvous(parser, options)
    if options.hosts is None:
        given = [name for name in ("python", "env", "ssh") if getattr(options, name)]
        if given:
            parser.error(f"--{given[0]} without --hosts; give the hosts")
        return
    if options.cluster is not None:
        parser.error("--hosts with --cluster, whose file says where the tasks are; give one")
    if options.isolate == "on":
        parser.error("--isolate on with --hosts, whose tasks reach each other; leave it out")


def _check_rendezvous(parser: Parser, options: argparse.Namespace) -> None:
    if options.rendezvous is None:
        if options.nnodes is not None:
            parser.error("--nnodes without --rendezvous; give it as host:port, on each host alike")
        return
    if not options.nnodes:
        parser.error("--rendezvous without --nnodes; give the number of hosts that come")
    for name in ("hosts", "cluster"):
        if getattr(options, name) is not None:
            parser.error(f"--rendezvous with --{name}, which says where the tasks are; give one")
    if not isinstance(options.workers, int | None) or options.workers == 0:
        parser.error(
            "--rendezvous with a range of --workers, or none; give the number of each host's, or "
            "--hosts or --cluster for a job that changes its size"
        )
    if not isinstance(options.ps, int):
        parser.error(
            "--rendezvous with a range of --ps; give their number, or --hosts or --cluster for a "
            "job that changes its size"
        )
    if options.isolate == "on":
        parser.error("--isolate on with --rendezvous, whose tasks reach each other; leave it out")
    if options.dry_run:
        parser.error("--dry_run with --rendezvous, where who is who is agreed on; leave it out")
