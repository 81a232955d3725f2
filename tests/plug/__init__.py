"""Scripts that never heard of tfdist."""
