"""`tfdist plan`: what a script would need and gain on more workers, before a run.

`plan_command.py`: the command: its options, sizes as 16GB, how long is measured (5 s).
`plan_runner.py`: starts two short jobs, of one worker and of two; the end of a failing one's
    output.
`probe.py`: the program in these jobs: memory and speed of a script's first `fit`.
`probed_seconds.py`: parts of a step that the probe times by turns: growing with rows, updates.
`probed_layers.py`: layers and tables that the probe reads off a model; why no servers, no shards.
`seen_process.py`: what was seen of one worker. Pure.
`task_memory.py`: the bytes of each task, by strategy. Pure.
`step_speed.py`: seconds of a step of workers in step. Pure.
`shard_speed.py`: with `shard_optimizer`. Pure.
`pipeline_speed.py`: of a pipeline. Pure.
`server_speed.py`: with parameter servers. Pure.
`predicted_step.py`: where the seconds of a step that was not run would go. Pure.
`stage_cuts.py`: which layers go to which stage. Pure.
`script_plan.py`: all of that together: which tasks fit, which gain. Pure.
`recommendation.py`: what to take, and from how much faster on (1.1, 1.3, 1.5 times). Pure.
`plan_report.py`: the text and the JSON. Pure.
`plan_figure.py`: the picture, .svg, .png or .pdf, by matplotlib.
"""
