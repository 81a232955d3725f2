"""`tfdist plan`: what a script would need and gain on more workers, before a run.

`task_memory` and `step_speed` are the arithmetic, `recommendation` what follows from it, and
`plan_report` and `plan_figure` tell it; these are pure. `probe` runs inside of two short jobs that
`plan_runner` starts; `plan_command` is the command.
"""
