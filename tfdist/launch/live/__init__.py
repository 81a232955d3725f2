"""What people and programs see of a job while it runs: a bar, lines, files, an address.

    tasks ──► records ──► JobProgress ──► JobView ──► JobBar           on a terminal
                                                ├──► PlainLines       elsewhere
                                                ├──► TensorBoardFiles
                                                └──► MetricsPort
                      └──► TraceFile

Each is a `Watcher`; what they need beside Python (rich, tensorboard, prometheus-client) is imported
when it is asked for.

`chosen_view.py`: who watches, by the options: --progress, --tensorboard, --metrics_port; which
    packages are missing.
`live_view.py`: takes in what tasks tell, four times a second, and hands it on.
`job_bar.py`: the bar on a terminal, of up to 8 tasks, and its marks.
`plain_lines.py`: a line every 10 s, where there is no terminal.
`progress_wording.py`: the words and numbers of both. Pure.
`tensorboard_files.py`: scalars for TensorBoard, DIR/job and DIR/worker-0, every 2 s.
`metrics_port.py`: `/metrics` for Prometheus.
`trace_file.py`: timeline.trace.json, a timeline for Perfetto.
"""

from tfdist.launch.live.live_view import LiveView, Watcher

__all__ = ["LiveView", "Watcher"]
