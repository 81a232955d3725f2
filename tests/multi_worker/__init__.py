"""Real worker processes do what one process does."""
