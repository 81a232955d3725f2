"""Small programs, one a pattern that people really write, held against plain Keras."""
