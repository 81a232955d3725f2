"""`tfdist bench`: the speed on 1, 2, ..., N workers, where it goes, and what more would bring.

`model` is the arithmetic (pure), `measured` what is kept, `runner` starts the jobs, `worker` runs
inside them, `builtin` is a script to measure where there is none, `report` and `plot` tell the
results.
"""
