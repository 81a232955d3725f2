"""MultiHeadAttention whose heads are each computed where their weights are."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfdist.compat.keras_attention import OwnAttention
from tfdist.training.tensor_parallel.device_parts import Parts, computed_on, joined, parts_of

__all__ = ["SplitAttention"]

_HEADS = -2  # the axis of heads in a projection, and in what they give


class SplitAttention(OwnAttention):
    """`keras.layers.MultiHeadAttention` with its projections cut by heads.

    Where scores are dropped out, or asked for, all heads are computed together: what is drawn at
    random is what one device would draw.
    """

    def attend(self, *projected: Any, **options: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Computes the heads of each device there; see `OwnAttention.plain`."""
        query, key, value, mask, training = projected
        found = [parts_of(one) for one in (query, key, value)]
        known = [one for one in found if one is not None and one.axis == _HEADS]
        wanted = options.get("return_attention_scores") or (self.dropout > 0 and training)
        if len(known) < len(found) or wanted or _differ(known):
            return self.plain(query, key, value, mask, training, **options)

        heads = known[0].sizes
        masks = _by_heads(mask, heads, self.num_heads)
        values = []
        for number, (q, k, v) in enumerate(zip(*(one.values for one in known), strict=True)):
            operands = [q, k, v] if mask is None else [q, k, v, masks[number]]

            def own(q: Any, k: Any, v: Any, *given: Any) -> tf.Tensor:
                return self.plain(q, k, v, given[0] if given else None, training, **options)[0]

            values.append(computed_on(q.device, own, operands))
        return joined(Parts(_HEADS, tuple(values))), None


def _differ(parts: list[Parts]) -> bool:
    return any(one.sizes != parts[0].sizes for one in parts)


def _by_heads(mask: Any, heads: list[int | None], count: int) -> list[Any]:
    """The mask for each part: it may have an axis of heads."""
    if mask is None or len(mask.shape) < 4 or mask.shape[1] != count:
        return [mask] * len(heads)
    return list(tf.split(mask, heads, axis=1))
