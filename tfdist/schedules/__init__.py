"""Pipelines as pure data: schedules, plans, costs, where to cut a chain of layers, and drawings.

Nothing here imports TensorFlow.
"""
