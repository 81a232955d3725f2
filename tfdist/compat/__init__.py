"""What tfdist borrows from the private parts of Keras and TensorFlow, and what it replaces there.

Everything else in tfdist uses public API. A file a subject, each with its owner's name in front:
what it calls is called as Keras or TensorFlow call it themselves.

`names.py`: every private name, looked for at import; what a new Keras has moved.
`patches.py`: the functions that have stand-ins while a step is traced: where each is, and its form.
`installed.py`: the refusal of a Keras that does not fit, before anything is used; KERAS_BACKEND.
`versions.py`: which versions of Keras are tested (3.14 to 3.16), and the sentence for any other.
`first_operation.py`: what must come before TensorFlow's first operation; a scope for the whole
    program; imports no Keras.
`keras_attention.py`: multi-head attention between its projections.
`keras_build.py`: how all variables of a model, its metrics and optimizers are made; global seeds.
`keras_data.py`: Keras' data adapters: what `fit` accepts, validation_split, weights of classes.
`keras_layers.py`: layers in a model, calls between them, masks, logits, embeddings' tables.
`keras_optimizers.py`: what optimizers know of their variables: weight decay, learning rate.
`keras_slots.py`: which optimizers can be cut into shares (`shard_optimizer`), and their slots.
`keras_trainer.py`: losses, `compute_loss`, order of results, Keras' own save, BackupAndRestore's
    epoch.
`keras_weights.py`: Keras variables that are tensors while a step is traced, or move to a device.
`tf_collectives.py`: collectives: lanes beside each other, small sums by a gather, int32 on GPUs,
    how long a silent process is borne.
`tf_datasets.py`: how a `tf.data.Dataset` was made: its maps, batches, caches, what makes it vary.
`tf_functions.py`: functions of a chief that Python may not let go of (garbage) while a server is
    lost, which would hold all of it up.
`tf_graphs.py`: constants, captures, loops, tapes, seeds; operations that wait for others.
`tf_levels.py`: collectives in groups of replicas: sums level by level.
`tf_random.py`: draws: which a graph has; those with a state of their own, by another function.
`tf_saving.py`: checkpoints over several machines without a warning; objects that have changed, and
    `model.export`.
`tf_strategies.py`: a strategy's scopes, its mode without `merge_call`, the copies of its variables.
`tf_threads.py`: what TensorFlow keeps for each thread, for threads that write one graph.
"""
