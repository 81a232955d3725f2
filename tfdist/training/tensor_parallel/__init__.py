"""Tensor parallelism: the weights of one layer on several devices, each of which computes its part.

As Megatron-LM (Shoeybi et al., 2019) cuts a transformer, in one TensorFlow program: a weight that
is cut along what a layer puts out gives each device a part of the output, one that is cut along
what the layer takes in gives each a term of a sum. Two layers after each other, the first cut the
one way and the second the other, exchange nothing in between.

`device_parts.py`: a value of which each device has a part; what is computed on another device,
    and its gradient there, too.
`split_weight.py`: the parts of a weight, seen as the one variable of plain Keras.
`plain_weights.py`: what a layer in parts writes to files, reads, and shows by `get_weights`.
`einsum_axes.py`: which axes of input and output an axis of a kernel belongs to. Pure.
`split_products.py`: Dense and EinsumDense; activations that keep the parts.
`split_lookups.py`: Embedding.
`split_attention.py`: the heads of MultiHeadAttention, each computed where its weights are.
`weight_axes.py`: which layers of a model are cut, and along which axis: by the user's
    `layout_map`, or chosen; what is refused.
`part_flow.py`: what a graph computes of parts: by each number, or of a part alone.
`own_parts.py`: steps of a class's own that do the latter; "of a part of a weight".
`split_clipping.py`: `clipnorm`, whose norm is that of a whole weight.
`splitting.py`: turns the layers of a built model, and its optimizers, in place.
"""
