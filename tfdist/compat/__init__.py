"""What tfdist borrows from the private parts of Keras and TensorFlow, and whether it is there."""
