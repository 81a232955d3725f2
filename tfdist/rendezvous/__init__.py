"""The tasks of a job meet before TensorFlow opens a port, and stay in touch to its end.

A coordinator (the chief) waits for all participants, compares the handshakes in which each says
who and what it is, and gives all of them the same answer. Where servers work for a chief, the
membership stays open: each server holds a session with it, and learns how the job has ended.

Nothing here imports TensorFlow.

`agreement.py`: `meet`: who meets whom, on which port, until when; the seed of the job; the warning
    of a job without a secret.
`coordinator.py`: the chief's side until all are here: two processes of one name, tasks that fall
    silent (10 s) or come too late.
`participant.py`: the others' side: how often the chief is tried again, a stranger at its address;
    up to 64 tasks log whom they wait for.
`handshake.py`: what each says of itself, and how two differ: jobs, kind of strategy, versions;
    which values of it are refused.
`wording.py`: what is said of those who are missing, at the deadline, too; how often the waiting
    line is said again (after 2 s, 10 s, then every 10 s), how many are named.
`absent.py`: who is still missing, in the cluster's order.
`greeting.py`: both sides prove that they know the job's secret; "with another secret than ...".
`seals.py`: the seal on each message after that.
`messages.py`: frames on a connection, its end, HTTP servers and other strangers.
`message_forms.py`: the form that each message must have.
`guests.py`: who is turned away where too many come; "ignored a connection from ...", once a host.
`cards.py`: whether each worker has GPUs of its own, so that NCCL or the ring sums; uneven numbers
    of GPUs.
`reach.py`: one attempt to connect; at the end, waiting until all is sent and read (2 s).
`in_touch.py`: workers in step after that: each tells the others every second where it stands, who
    is gone.
`membership.py`: the chief with servers after that: who is here, who may come back, the last word.
`session.py`: a server after that: how it waits for the chief's last word; when the chief is lost.
`dropping.py`: when a silent worker of parameter servers is dropped (after 15 s, or the stall
    timeout where that is shorter, 8 s at least), and how.
`forks.py`: connections in a forked child.
"""
