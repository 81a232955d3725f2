"""`tfdist plan`: what a script would need and gain on more workers, before a run.

`task_memory`, `step_speed`, `pipeline_speed` and `server_speed` are the arithmetic, put together in
a `plan`; `recommendation` is what follows from it, and `plan_report` and `plan_figure` tell it;
these are pure. `probe` runs inside of two short jobs that `plan_runner` starts; `plan_command` is
the command.
"""
