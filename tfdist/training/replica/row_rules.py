"""Which rule says what an operation of TensorFlow makes of rows (`row_flow`)."""

from __future__ import annotations

from tfdist.training.replica import row_entries, row_moves, row_products, row_shapes
from tfdist.training.replica.row_flow import Rule

__all__ = ["RULES"]

_KEPT = (
    *("Cast", "CheckNumerics", "CheckNumericsV2", "DebugGradientIdentity", "Identity", "Neg"),
    *(
        "PreventGradient",
        "Snapshot",
        "StopGradient",
        "TensorListFromTensor",
        "Conj",
        "Imag",
        "Real",
    ),
)
_LARGER = ("Abs", "LeakyRelu", "Maximum", "Minimum", "Relu")
_EACH = (
    *("Acos", "Atan2", "Ceil", "Cos", "Cosh", "Elu", "Equal", "Erf", "Exp", "Expm1", "Floor"),
    *("FloorMod", "Greater", "GreaterEqual", "IsFinite", "IsInf", "IsNan", "Less", "LessEqual"),
    *("Lgamma", "Log", "Log1p", "LogicalAnd", "LogicalNot", "LogicalOr", "NotEqual", "Pow"),
    *("Relu6", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign"),
    *("SquaredDifference", "Tan", "Tanh", "Xlogy", "Xdivy", "FloorDiv"),
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_KEPT, row_entries.kept),
    **dict.fromkeys(_LARGER, row_entries.homogeneous),
    **dict.fromkeys(_EACH, row_entries.each),
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sub"), row_entries.added),
    "Mul": row_entries.times,
    "MulNoNan": row_entries.times,
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan"), row_entries.over),
    "Square": row_entries.power(2),
    "Sqrt": row_entries.power(0.5),
    "Rsqrt": row_entries.power(-0.5),
    "Reciprocal": row_entries.power(-1),
    **dict.fromkeys(("Select", "SelectV2"), row_entries.selected),
    "Sum": row_shapes.reduced(row_shapes.summed, linear=True),
    "Mean": row_shapes.reduced(row_shapes.averaged, linear=True),
    **dict.fromkeys(
        ("All", "Any", "Max", "Min"), row_shapes.reduced(row_shapes.picked, linear=False)
    ),
    "EuclideanNorm": row_shapes.reduced(row_shapes.untold, linear=False),
    "Prod": row_shapes.product_of_shape,
    "L2Loss": row_products.squares_summed,
    "Transpose": row_shapes.transposed,
    "ExpandDims": row_shapes.expanded,
    "Squeeze": row_shapes.squeezed,
    "Reshape": row_shapes.reshaped,
    "Pack": row_shapes.packed,
    "Unpack": row_shapes.unpacked,
    "ConcatV2": row_shapes.joined,
    "StridedSlice": row_shapes.sliced,
    **dict.fromkeys(("MatMul", "BatchMatMulV2", "BatchMatMulV3"), row_products.multiplied),
    "Einsum": row_products.einsum,
    "Shape": row_shapes.shape_of,
    **dict.fromkeys(("BroadcastGradientArgs", "ShapeN"), row_shapes.shape_of_each),
    "Size": row_shapes.size_of,
    **dict.fromkeys(("OnesLike", "ZerosLike"), row_shapes.like),
    "Range": row_shapes.range_of,
    **dict.fromkeys(("GatherV2", "ResourceGather"), row_products.gathered),
    **dict.fromkeys(("UnsortedSegmentSum", "SegmentSum", "SegmentSumV2"), row_shapes.segments),
    **dict.fromkeys(
        ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), row_shapes.normalized
    ),
    **dict.fromkeys(("Cumsum", "Cumprod", "CumulativeLogsumexp"), row_moves.along),
    "Where": row_shapes.listed,
    "Tile": row_entries.tiled,
    **dict.fromkeys(("Softmax", "LogSoftmax"), row_entries.normalized_along_last),
    **dict.fromkeys(("While", "StatelessWhile"), row_shapes.looped),
    **dict.fromkeys(("TensorListPushBack", "TensorListSetItem"), row_shapes.lists_an_item),
    "TensorListStack": row_shapes.stacked,
    "ReverseV2": row_moves.reordered(1),
    "Roll": row_moves.reordered(2),
    **dict.fromkeys(("FFT", "IFFT", "RFFT", "IRFFT"), row_moves.transformed(1)),
    **dict.fromkeys(("FFT2D", "IFFT2D", "RFFT2D", "IRFFT2D"), row_moves.transformed(2)),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), row_moves.padded),
    "Slice": row_moves.cut,
    "TopKV2": row_moves.along_last,
}
