"""Replicas that train in step: one device, mirrored and multi-worker mirrored."""
