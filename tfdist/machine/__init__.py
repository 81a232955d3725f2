"""This machine, as a job meets it: cores, ports, signals, and the hosts it can look up.

`capacities.py`: how many cores, how much memory and how large files a process may use: cgroups,
    limits.
`gpus.py`: which GPUs and MIG slices there are (nvidia-smi, CUDA_VISIBLE_DEVICES), and free memory.
`ports.py`: ports held for a job; "port 2222 that is ..." and which process has it.
`places.py`: whether this task's port is free, and hosts of a cluster resolve; two addresses at one
    place; waiting for names that come late.
`hosts.py`: names looked up, without waiting long.
`interfaces.py`: at which addresses others reach this machine, and its name servers.
`connections.py`: ending connections that native code waits on; which gRPC servers still answer.
`open_files.py`: how many files and connections a process may have open; "raise the limit (ulimit
    -Hn ...)".
`process_memory.py`: the peak memory of this process.
`signals.py`: SIGTERM, SIGUSR1, SIGUSR2 ask for an end; the seconds from there to SIGKILL (5).
`stacks.py`: the Python stacks of a process that hangs: worker-1.stacks.txt, up to 1 MiB.
`standard_streams.py`: output that the shell has closed, or whose reader has gone.
`standstill.py`: whether this process itself was stopped or asleep, so that it blames nobody.
`swapped_names.py`: two files that change names in one step.
"""
