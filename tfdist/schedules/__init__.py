"""Pipelines as pure data: schedules, plans, costs, where to cut a chain of layers, and drawings.

Nothing here imports TensorFlow.

`schedule.py`: "gpipe", "1f1b", "zero_bubble", "sequential" by name; a plan's bubble; activations
    held.
`interleaved.py`: "interleaved" and "zb_v", with several stages a task.
`clocks.py`: the earliest clock of each slot, and what it needs.
`partition.py`: where to cut a chain of layers, so that the slowest stage is fast; a memory limit.
`pipeline_plan.py`: what a user asks for: stages, microbatches, replicas, place, recompute;
    refusals.
`weight_layout.py`: `layout_map`: which weights are cut along which axis, and patterns of no weight.
`simulation.py`: how long a step would take.
`timings.py`: the slots of a real step, and its bubble.
`drawing.py`: a schedule as text or picture.
"""
