"""Embedding tables cut into shards on parameter servers, and the sparse updates of their rows.

`sharded_embedding.py`: which layers are sharded (from 256 KiB on), over how many servers, what is
    refused; the layer that stands there, frozen or not; which row is in which shard.
`lookup.py`: how rows are fetched: each distinct one once, in a message a shard.
`sparse_updates.py`: how an optimizer updates the rows that were looked up; which optimizers and
    options it refuses (`use_ema`, weight decay).
`sparse_rules.py`: the rule of each optimizer, and how it differs from Keras' dense update.
`embedding_tables.py`: the tables of one plugged model: variables, clipping, updates.
`sharded_variable.py`: all shards as the one variable that plain Keras has.
`table_slots.py`: which variables stand for one of plain Keras, for files.
"""
