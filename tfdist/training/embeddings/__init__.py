"""Embedding tables cut into shards on parameter servers, and the sparse updates of their rows."""
