"""Scale on paper: what a step would take on N workers, for each way to train. Pure.

`link`, `ring` and `hierarchy` are wires and the sums over them, and `step_work` is what one worker
has to do. The ways to train are `in_step`, `sharded_update`, `pipeline_replicas` and
`parameter_servers`; the last one runs `server_job`, a simulation of events. All numbers are in
seconds, bytes, and bytes a second. `portion_job` is a batch that is handed out in small portions.
"""
