"""Pipelines as pure data: schedules, plans, costs, where to cut a chain of layers, and drawings.

`schedule` has them by name: "gpipe", "1f1b", "zero_bubble" and "sequential" itself, those with
several stages a task ("interleaved", "zb_v") in `interleaved`; `clocks` finds the earliest clock of
each slot. `partition` cuts a chain of layers, `pipeline_plan` holds what a user has asked for,
`simulation` and `timings` say how long a step takes, on paper and measured, and `drawing` draws it.

Nothing here imports TensorFlow.
"""
