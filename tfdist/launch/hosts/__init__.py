"""The tasks of a job on other hosts, started over OpenSSH: `tfdist run --hosts a,b train.py`.

    this machine                                     host a                       host b
    Job ──► Starter ──► HostLink ══ ssh ══ agent.py ──► worker:0    ssh ══ agent.py ──► worker:1
                                                 └──► guardian

There is one launcher, which decides all. On each host an agent holds ports, starts processes as a
launcher of that machine would, and tells what becomes of them. It ends them where its connection
ends, and where nothing more is heard of the launcher; a guardian ends them where it is killed.

`hosts_command.py`: `tfdist run --hosts`: the job that its options make.
`host_list.py`: which hosts, and how many workers each has room for: lists, hosts files, slots=N.
`spread.py`: which task runs on which host. Pure.
`ssh_command.py`: the command of a connection, and what its failure means ("host key", no Python).
    Pure.
`survey.py`: what a host must have alike: versions, the script, its folder.
`carried.py`: which variables go along, and --env.
`host_ground.py`: all of them, as a ground for a job: connecting, waiting (120 s), connecting again.
`host_link.py`: the launcher's side of a connection, and why it ended.
`host_task.py`: a task there, as the launcher sees it.
`host_witness.py`: what else it hears of the hosts: who takes part, logs, words.
`agent.py`: a host's side: ports, tasks, signals; ends all when nothing is heard for 60 s.
`frames.py`: the messages between launcher and agent.
`outbox.py`: those of them that are still to be written, which never block.
"""
