"""What each replica reads: its own rows of every global batch, of whatever `fit` was given."""
