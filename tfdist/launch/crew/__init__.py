"""All launchers of a job decide together: with which workers it goes on, when, or why it ends.

    host A (the chief's)                      host B               host C
    Foreman ◄── orders, reports ──► CrewJob   CrewJob              CrewJob
        ▲                                        │                    │
        └──────────────── FrontDoor ◄────────────┴────────────────────┘

A job's tasks cannot change in number while they run: TensorFlow fixes them at the start. So a job
that loses a worker, or gets one, ends its tasks at a border and starts others, a *generation*, with
the places that there are. The foreman says which. It is told what happens and tells what to do,
and knows no sockets; a job on one machine has it in its own launcher, with no network at all.
"""
