"""The options of `tfdist run` by which people and programs see a job while it runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tfdist.command_line import Parser

if TYPE_CHECKING:
    from tfdist.cluster.address import Address

__all__ = ["add_options"]

_LOOPBACK = "127.0.0.1"


def add_options(parser: Parser) -> None:
    """Adds the options.

    Args:
        parser: That of `tfdist run`.
    """
    group = parser.add_argument_group("what is seen of it")
    parser.option(
        group,
        "--progress",
        choices=("auto", "bar", "plain", "none"),
        default="auto",
        help="a bar for the job and a line for each task, which says what it spends its time on "
        "and whether it lags; plain: a line now and then (default: auto, a bar on a terminal, "
        "plain where NO_COLOR, CI or TERM=dumb is set, and elsewhere)",
    )
    parser.option(
        group,
        "--tensorboard",
        metavar="DIR",
        help="write scalars for TensorBoard, and a timeline of all tasks for Perfetto, to DIR",
    )
    parser.option(
        group,
        "--metrics_port",
        type=_metrics_address,
        metavar="[HOST:]PORT",
        help="let Prometheus ask for numbers, at this machine's loopback unless HOST says; 0: a "
        "port that the system picks",
    )


def _metrics_address(text: str) -> Address:
    """Reads a port, or an address to listen at."""
    from tfdist.cluster.address import Address

    host, colon, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (colon and not host):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no port; give 0 to 65535, or host:port as 0.0.0.0:9100"
        )
    return Address(host.strip("[]") or _LOOPBACK, int(port))
