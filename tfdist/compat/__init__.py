"""What tfdist borrows from the private parts of Keras and TensorFlow, and whether it is there.

A file a subject. `first_operation` is for those who must not import all of Keras yet.
"""
