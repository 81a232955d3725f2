"""Private names of TensorFlow for those who must not import all of Keras yet, a file a subject."""
