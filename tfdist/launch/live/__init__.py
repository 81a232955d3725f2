"""What people and programs see of a job while it runs: a bar, lines, files, an address.

    tasks ──► records ──► JobProgress ──► JobView ──► JobBar           on a terminal
                                                ├──► PlainLines       elsewhere
                                                ├──► TensorBoardFiles
                                                └──► MetricsPort
                      └──► TraceFile

Each is a `Watcher`; `LiveView` hands on to all that were asked for. What they need beside Python
(rich, tensorboard, prometheus-client) is imported when it is asked for.
"""

from tfdist.launch.live.live_view import LiveView, Watcher

__all__ = ["LiveView", "Watcher"]
