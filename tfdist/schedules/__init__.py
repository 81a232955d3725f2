"""Pipelines as pure data: schedules, plans, costs, where to cut a chain of layers, and drawings.

`schedule` has them by name: "gpipe", "1f1b", "zero_bubble" and "sequential" itself, those with
several stages a task ("interleaved", "zb_v") in `interleaved`; `clocks` finds the earliest clock of
each slot. The bubble of a plan is `schedule`'s, that of a real or simulated step `timings`'.
`partition` cuts a chain of layers, `pipeline_plan` holds what a user has asked for, `simulation`
says how long a step would take, and `drawing` draws it.

Nothing here imports TensorFlow.
"""
