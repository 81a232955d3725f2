"""`tfdist bench`: the speed on 1, 2, ..., N workers, where it goes, and what more would bring.

`model` and `other_ways` are the arithmetic (pure), `measured` what is kept, `runner` starts the
jobs, `worker` runs inside them (and `update_time`), `builtin` is a script to measure where there is
none, `report` and `plot` tell the results.
"""
