"""The same command on each host: `tfdist run --rendezvous a:29400 --nnodes 2 train.py`.

    host a: the launcher at its address        host b                    host c
    NodeRoll ◄── who comes, with which ports ──── join ◄──── join ──────────┘
        └──── the cluster, and whose tasks ─────►  go  ────► go

Each launcher is a *node*. Once all are there, the first one tells each the cluster and its tasks,
and from then on they run as if they had been given a file with it. Nothing of this is in use then.

`nodes_command.py`: `tfdist run --rendezvous`: this launcher's part of a job, and what all must give
    alike.
`node.py`: what a launcher says of itself, and how two of them differ. Pure.
`node_roll.py`: who is here, and who becomes what. Pure.
`node_meeting.py`: the words between them, silence (10 s) and "nobody at ... within ...".
"""
