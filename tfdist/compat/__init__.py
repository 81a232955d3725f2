"""What tfdist borrows from the private parts of Keras and TensorFlow, and what it replaces there.

Everything else in tfdist uses public API. A file a subject, each with its owner's name in front:
what it calls is called as Keras or TensorFlow call it themselves. `names` lists every private name
and looks for it, `patches` holds the functions that have stand-ins while a step is traced, and
`installed` says in one sentence what has moved, before anything is used. `first_operation` is for
those who must not import all of Keras yet.
"""
