"""A job whose tasks reach each other through encrypted tunnels alone: `tfdist run --secure`.

    host a                                                          host b
    ┌ network of the tasks ─────────┐                    ┌ network of the tasks ─────────┐
    │ worker:0 ──► b's address:2222 │                    │ worker:1, listens at port 2222│
    │              ▲ listens        │                    │              ▲                │
    └──────────────│────────────────┘                    └──────────────│────────────────┘
                stunnel (out) ═══ TLS 1.3, a key of b's port ═══► stunnel (in), at b's port 2222

TensorFlow's servers listen on all interfaces, and let in whoever comes. Here all that they have is
the loopback of a network namespace, on which lie the addresses of all the job's hosts. So each task
has the cluster that the user gave. At the addresses of other hosts' tasks listens a stunnel that
carries what comes to a stunnel there. The sockets are made for them where they cannot go.

`passages.py`: which addresses are here and which elsewhere, and their keys. Pure.
`trust_anchor.py`: a certificate authority that nobody is. Pure.
`stunnel_config.py`: what stunnel reads: TLS 1.3, keys. Pure.
`stunnel_report.py`: what its log says, in our words: another secret, no TLS. Pure.
`stunnel_program.py`: whether there is one that will do; "stunnel is not installed".
`doorways.py`: a program: listens at addresses in the tasks' network.
`become_stunnel.py`: a program: takes sockets along into stunnel.
`tunnel.py`: both stunnels of a job on this machine, and their deadlines (10 s).
`secure_machine.py`: this machine as a ground for such a job; the refusal without a secret.
"""

from tfdist.launch.secure.secure_machine import SecureMachine, reason_against

__all__ = ["SecureMachine", "reason_against"]
