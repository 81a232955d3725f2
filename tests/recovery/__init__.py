"""Jobs that are killed and started again, and files that several workers write."""
