"""The tasks of a job meet before TensorFlow opens a port, and stay in touch to its end.

A coordinator (the chief) waits for all participants, compares the handshakes in which each says
who and what it is, and gives all of them the same answer. Where servers work for a chief, the
membership stays open: each server holds a session with it, and learns how the job has ended.

Nothing here imports TensorFlow.
"""
