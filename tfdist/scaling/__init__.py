"""Scale on paper: what a step would take on N workers, for each way to train. Pure.

All numbers are in seconds, bytes, and bytes a second.

`link.py`: what a message costs: latency and bandwidth.
`ring.py`: sums on a ring of all workers; small ones by a gather.
`hierarchy.py`: sums within hosts, then between them.
`step_work.py`: what one worker has to do in a step.
`in_step.py`: workers in step, with a straggler.
`sharded_update.py`: in step, each with a share of the update (`shard_optimizer`).
`pipeline_replicas.py`: pipelines beside each other.
`parameter_servers.py`: workers with parameter servers, and a slow one.
`server_job.py`: the simulation of that, event by event; bounds on staleness.
`portion_job.py`: a batch in small portions, as whole-batch optimizers hand it out.
"""
