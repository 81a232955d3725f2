"""The epoch loop, once for every family: what it asks of a family, chunks of steps, callbacks."""
