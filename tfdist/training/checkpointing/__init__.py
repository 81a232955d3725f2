"""The state of a job on disk, whole at any moment."""
