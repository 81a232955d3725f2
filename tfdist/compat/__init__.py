"""Private names of Keras and TensorFlow, a small file a subject, for those who must not import all
of `tfdist.internals` (and with it Keras) yet."""
