"""Jobs handed in to schedulers."""
