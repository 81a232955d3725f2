"""All launchers of a job decide together: with which workers it goes on, when, or why it ends.

    host A (the chief's)                      host B               host C
    Foreman ◄── orders, reports ──► CrewJob   CrewJob              CrewJob
        ▲                                        │                    │
        └──────────────── FrontDoor ◄────────────┴────────────────────┘

A job's tasks cannot change in number while they run: TensorFlow fixes them at the start. So a job
that loses a worker or a parameter server, or gets one, ends its tasks at a border and starts
others, a *generation*, with the places that there are. The foreman says which. It is told what
happens and tells what to do, and knows no sockets; a job on one machine has it in its own launcher,
with no network at all.

`foreman.py`: what is done where a worker (of parameter servers, too: alone) or a ps is lost, comes
    or goes: which places train next, when a border is asked for, when the job ends.
`strength.py`: how many places of each kind a generation needs, and may have (`--workers 1:4`,
    `--ps 1:2`); which of those that are here take part.
`cause.py`: why a generation ended: hopeless, failed, lost, follows; which of them counts.
`generation.py`: its places, numbered anew without gaps.
`muster.py`: who can take part next: who was lost rests, and comes back by a restart; for whom the
    last restart is.
`roll.py`: which launchers are here, with which places; who is refused, who replaced; nothing is
    begun with one that is silent for 3 s.
`crew_job.py`: a launcher's own job: starts and ends what the foreman orders.
`crew_options.py`: when launchers decide together at all, and what of it is refused.
`foreman_link.py`: the way to the foreman, and looking for it again.
`front_door.py`: the port for other hosts' launchers (--crew_port, behind the highest of the chief's
    host).
"""
