"""Asynchronous training: a chief hands out steps, workers take them, servers keep the variables."""
