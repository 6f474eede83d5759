"""Cases of every operator outside the named networks: attributes, and the inputs they are tried on."""

from __future__ import annotations

from detector_cases import BOXES, REGION_CASES, SAMPLES, SEQUENCES
from operator_case import IMAGE, SEVENTH, TENTH
from operator_case import OperatorCase as CASE  # noqa: N814 - a table of them is easier to read

VIDEO = (2, 4, 6, 7, 5)
VOLUME = {"kernel": "(3, 2, 2)", "num_filter": "6"}
CONVOLUTION = {"kernel": "(3, 2)", "num_filter": "6"}
CONVOLUTIONS = [
    CASE("Convolution", (IMAGE, (6, 4, 3, 2), (6,)), CONVOLUTION),
    *(
        CASE("Convolution", (IMAGE, (6, 4, 3, 2), (6,)), CONVOLUTION | {key: value})
        for key, value in (("stride", "(2, 3)"), ("pad", "(1, 2)"), ("dilate", "(2, 1)"))
    ),
    CASE("Convolution", (IMAGE, (6, 4, 3, 2)), CONVOLUTION | {"no_bias": "True"}),
    CASE("Convolution", (IMAGE, (6, 2, 3, 2), (6,)), CONVOLUTION | {"num_group": "2"}),
    CASE(
        "Convolution", (IMAGE, (4, 1, 3, 3), (4,)), {"kernel": "(3, 3)", "num_filter": "4", "num_group": "4"}
    ),
    CASE("Convolution", ((2, 4, 9), (6, 4, 3), (6,)), {"kernel": "(3,)", "num_filter": "6", "pad": "(1,)"}),
    *(
        CASE("Convolution", (VIDEO, (6, 4, 3, 2, 2), (6,)), VOLUME | changed)
        for changed in ({}, {"stride": "(2, 3, 1)"}, {"pad": "(1, 1, 1)"}, {"dilate": "(2, 1, 1)"})
    ),
    CASE("Deconvolution", (IMAGE, (4, 6, 3, 2)), CONVOLUTION),
    *(
        CASE("Deconvolution", (IMAGE, (4, 6, 3, 2)), CONVOLUTION | changed)
        for changed in ({"stride": "(2, 3)"}, {"pad": "(1, 1)"}, {"dilate": "(2, 1)"})
    ),
    CASE("Deconvolution", (IMAGE, (4, 6, 3, 2)), CONVOLUTION | {"stride": "(2, 3)", "adj": "(1, 2)"}),
    CASE("Deconvolution", (IMAGE, (4, 6, 3, 2), (6,)), CONVOLUTION | {"no_bias": "False"}),
    CASE("Deconvolution", (IMAGE, (4, 3, 3, 2)), CONVOLUTION | {"num_group": "2"}),
    *(
        CASE("Deconvolution", (IMAGE, (4, 6, 3, 2)), CONVOLUTION | {"stride": "(2, 2)", "target_shape": size})
        for size in ("(18, 14)", "(17, 13)")
    ),
    CASE("FullyConnected", (IMAGE, (5, 252), (5,)), {"num_hidden": "5"}),
    CASE("FullyConnected", (IMAGE, (5, 7), (5,)), {"num_hidden": "5", "flatten": "False"}),
    CASE("FullyConnected", ((3, 6), (5, 6)), {"num_hidden": "5", "no_bias": "True"}),
]
STATISTICS = ((4,), (4,), (4,), (4,))
NORMALIZATIONS = [
    CASE("BatchNorm", (IMAGE, *STATISTICS), {}, low=0.1),
    CASE("BatchNorm", (IMAGE, *STATISTICS), {"eps": "0.3"}, low=0.1),
    CASE("BatchNorm", (IMAGE, *STATISTICS), {"fix_gamma": "False"}, low=0.1),
    CASE("BatchNorm", ((3, 4), *STATISTICS), {"fix_gamma": "False"}, low=0.1),
    CASE("LayerNorm", (IMAGE, (7,), (7,))),
    CASE("LayerNorm", (IMAGE, (7,), (7,)), {"eps": TENTH}),
    CASE("InstanceNorm", (IMAGE, (4,), (4,))),
    CASE("InstanceNorm", (IMAGE, (4,), (4,)), {"eps": TENTH}),
    CASE("GroupNorm", (IMAGE, (1,), (1,))),
    CASE("GroupNorm", (IMAGE, (2,), (2,)), {"num_groups": "2", "eps": TENTH}),
    *(
        CASE("L2Normalization", (IMAGE,), {"mode": mode, "eps": TENTH})
        for mode in ("instance", "channel", "spatial")
    ),
    CASE("L2Normalization", (IMAGE,)),
    CASE("LRN", (IMAGE,), {"nsize": "3"}),
    CASE("LRN", ((2, 6, 5, 4),), {"nsize": "5", "alpha": SEVENTH, "beta": "0.6", "knorm": "1.3"}),
]
POOL = {"kernel": "(3, 2)", "stride": "(2, 2)"}
POOLS = [
    *(
        CASE("Pooling", (IMAGE,), POOL | {"pool_type": pool} | changed)
        for pool in ("max", "avg", "sum")
        for changed in (
            {},
            {"pad": "(1, 1)"},
            {"pooling_convention": "full"},
            {"pooling_convention": "full", "pad": "(1, 0)"},
            {"pooling_convention": "full", "stride": "(4, 3)", "kernel": "(2, 2)"},
            {"pooling_convention": "full", "stride": "(4, 3)", "kernel": "(2, 2)", "pad": "(1, 1)"},
            {"global_pool": "True"},
        )
    ),
    CASE("Pooling", (IMAGE,), POOL | {"pool_type": "avg", "pad": "(1, 1)", "count_include_pad": "False"}),
    CASE(
        "Pooling",
        (IMAGE,),
        POOL
        | {"pool_type": "avg", "pad": "(1, 0)", "count_include_pad": "False", "pooling_convention": "full"},
    ),
    CASE("Pooling", (IMAGE,), {"kernel": "(3, 3)"}),
    CASE("Pooling", (IMAGE,), {"kernel": "(1, 1)", "pool_type": "avg"}),
    CASE("Pooling", (IMAGE,), {"kernel": "(1, 1)", "pool_type": "max", "pooling_convention": "full"}),
    CASE("Pooling", ((2, 4, 9),), {"kernel": "(3,)", "stride": "(2,)", "pooling_convention": "full"}),
    *(
        CASE("Pooling", (VIDEO,), {"kernel": "(2, 3, 3)", "stride": "(1, 2, 2)", "pool_type": pool} | changed)
        for pool in ("max", "avg")
        for changed in ({}, {"pad": "(1, 1, 1)"}, {"global_pool": "True"}, {"pooling_convention": "full"})
    ),
    CASE(
        "Pooling",
        (VIDEO,),
        {"kernel": "(2, 3, 3)", "pool_type": "avg", "pad": "(1, 1, 1)", "count_include_pad": "False"},
    ),
    CASE("_contrib_AdaptiveAvgPooling2D", (IMAGE,)),
    CASE("_contrib_AdaptiveAvgPooling2D", (IMAGE,), {"output_size": "(5, 3)"}),
    CASE("UpSampling", (IMAGE,), {"scale": "3", "sample_type": "nearest", "num_args": "1"}),
    *(
        CASE(
            "UpSampling",
            ((2, 4, 6, 4), (2, 4, 3, 2)),
            {"scale": "2", "sample_type": "nearest", "num_args": "2"} | changed,
        )
        for changed in ({}, {"multi_input_mode": "sum"})
    ),
    *(
        CASE(
            "UpSampling",
            ((2, 4, 6, 4), (4, 1, kernel, kernel)),
            {"scale": scale, "sample_type": "bilinear", "num_args": "2", "num_filter": "4"},
        )
        for scale, kernel in (("2", 4), ("3", 5))
    ),
    CASE("_contrib_BilinearResize2D", (IMAGE,), {"scale_height": "1.7", "scale_width": "2.3"}),
    *(
        CASE(
            "_contrib_BilinearResize2D",
            (shape,),
            {"scale_height": "2", "scale_width": "0.5", "mode": "odd_scale"},
        )
        for shape in (IMAGE, (1, 2, 6, 8))
    ),
    *(
        CASE("_contrib_BilinearResize2D", ((1, 2, 6, 7),), {"mode": f"to_{parity}_{way}"})
        for parity in ("odd", "even")
        for way in ("up", "down")
    ),
    *(
        CASE("_contrib_BilinearResize2D", (IMAGE,), {"height": height, "width": "5"} | changed)
        for height in ("4", "13", "1")
        for changed in ({}, {"align_corners": "False"})
    ),
    CASE("_contrib_BilinearResize2D", (IMAGE, (1, 1, 5, 12)), {"mode": "like"}),
]
ACTIVATIONS = [
    *(
        CASE("Activation", (IMAGE,), {"act_type": name})
        for name in ("relu", "sigmoid", "tanh", "softrelu", "softsign")
    ),
    CASE("relu", (IMAGE,)),
    CASE("sigmoid", (IMAGE,), low=-800, high=800),
    *(CASE("LeakyReLU", (IMAGE,), {"act_type": name}) for name in ("leaky", "elu", "selu", "gelu", "rrelu")),
    CASE("LeakyReLU", (IMAGE,), {"slope": SEVENTH}),
    CASE("LeakyReLU", (IMAGE,), {"slope": SEVENTH, "act_type": "elu"}),
    CASE("LeakyReLU", (IMAGE,), {"lower_bound": "0.2", "upper_bound": "0.5", "act_type": "rrelu"}),
    CASE("LeakyReLU", (IMAGE, (4,)), {"act_type": "prelu"}),
    CASE("LeakyReLU", (IMAGE, (1,)), {"act_type": "prelu"}),
    CASE("hard_sigmoid", (IMAGE,)),
    CASE("hard_sigmoid", (IMAGE,), {"alpha": TENTH, "beta": SEVENTH}),
    CASE("clip", (IMAGE,), {"a_min": "-0.3", "a_max": SEVENTH}),
    *(
        CASE(name, (IMAGE,), changed)
        for name in ("softmax", "log_softmax", "softmin")
        for changed in ({}, {"axis": "1"}, {"temperature": SEVENTH})
    ),
    CASE("SoftmaxActivation", (IMAGE,)),
    CASE("SoftmaxActivation", (IMAGE,), {"mode": "channel"}),
    CASE("SoftmaxOutput", (IMAGE, (2, 4, 9))),
    CASE("SoftmaxOutput", (IMAGE, (2, 9, 7)), {"multi_output": "True"}),
    CASE("SoftmaxOutput", (IMAGE, (2, 4, 9)), {"preserve_shape": "True"}),
    *(
        CASE(name, ((2, 5), (2, 5)))
        for name in ("LinearRegressionOutput", "MAERegressionOutput", "LogisticRegressionOutput")
    ),
    CASE("SVMOutput", ((2, 5), (2,))),
    CASE("MakeLoss", (IMAGE,)),
    CASE("make_loss", (IMAGE,)),
    CASE("Dropout", (IMAGE,)),
    CASE("Dropout", (IMAGE,), {"p": "0"}),
]
BROADCAST = ((2, 1, 7), (2, 5, 1))
SAME = ((2, 5, 7), (2, 5, 7))
SCALARS = (
    *("plus", "minus", "rminus", "mul", "div", "rdiv", "power", "rpower"),
    *("maximum", "minimum", "mod", "rmod", "hypot"),
)
COMPARED = ("equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal")
ELEMENTWISE = [
    *(CASE(name, SAME) for name in ("elemwise_add", "elemwise_sub", "elemwise_mul", "elemwise_div")),
    *(
        CASE(f"broadcast_{name}", BROADCAST, low=0.1)
        for name in ("add", "sub", "mul", "div", "power", "maximum", "minimum", "mod", "hypot")
    ),
    *(CASE(f"_{name}_scalar", (IMAGE,), {"scalar": SEVENTH}, low=0.1) for name in SCALARS),
    *(CASE(f"_{name}_scalar", (IMAGE,), {"scalar": "-1.3"}) for name in ("plus", "minus", "rminus", "mul")),
    *(CASE(f"broadcast_{name}", BROADCAST, whole=(0, 1)) for name in COMPARED),
    *(CASE(f"_{name}_scalar", (IMAGE,), {"scalar": "0"}, whole=(0,)) for name in COMPARED),
    *(
        CASE(name, (IMAGE,))
        for name in (
            "abs",
            "arcsinh",
            "arctan",
            "cbrt",
            "ceil",
            "cos",
            "cosh",
            "erf",
            "exp",
            "expm1",
            "fix",
            "floor",
            "negative",
        )
    ),
    *(
        CASE(name, (IMAGE,))
        for name in ("ones_like", "zeros_like", "sign", "sin", "sinh", "softsign", "square")
    ),
    *(CASE(name, (IMAGE,)) for name in ("tan", "tanh", "trunc", "identity", "BlockGrad", "smooth_l1")),
    *(
        CASE(name, (IMAGE,), low=0.1)
        for name in ("log", "log10", "log1p", "log2", "reciprocal", "rsqrt", "sqrt")
    ),
    *(CASE(name, (IMAGE,), low=-0.9, high=0.9) for name in ("arccos", "arcsin", "arctanh")),
    *(CASE(name, (IMAGE,), low=1.1, high=9) for name in ("arccosh", "gammaln")),
    CASE("logical_not", (IMAGE,), whole=(0,)),
    *(CASE(f"broadcast_logical_{name}", BROADCAST, whole=(0, 1)) for name in ("and", "or", "xor")),
    *(
        CASE(f"_logical_{name}_scalar", (IMAGE,), {"scalar": "0"}, whole=(0,))
        for name in ("and", "or", "xor")
    ),
    *(CASE(name, ((40,),), low=-4, high=4) for name in ("rint", "round")),
    CASE("smooth_l1", (IMAGE,), {"scalar": SEVENTH}),
    CASE("add_n", (IMAGE, IMAGE, IMAGE), {"num_args": "3"}),
    CASE("where", (SAME[0], SAME[0], SAME[0]), whole=(0,), low=-1, high=1),
    CASE("where", ((2,), SAME[0], SAME[0]), whole=(0,), low=0, high=1),
]
CODES = ["(0, -1)", "(-1, 7)", "(0, 2, -1, 1, 1)", "(0, -3, -2)", "(0, -4, 2, -1, -2)", "(0, -4, -1, 2, -2)"]
SHAPES = [
    CASE("Flatten", (IMAGE,)),
    *(CASE("Reshape", (IMAGE,), {"shape": codes}) for codes in [*CODES, "(0, 0, -3)", "(-1,)"]),
    *(CASE("Reshape", (IMAGE,), {"shape": codes, "reverse": "True"}) for codes in ("(-1, 0)", "(-1, 0, 0)")),
    CASE("reshape_like", ((2, 6), (3, 4))),
    *(
        CASE("reshape_like", ((30, 7), (15, 2, 4)), changed)
        for changed in (
            {"lhs_begin": "0", "lhs_end": "1", "rhs_begin": "0", "rhs_end": "2"},
            {"lhs_begin": "0", "lhs_end": "-1", "rhs_begin": "-3", "rhs_end": "-1"},
        )
    ),
    CASE("reshape_like", ((3, 4, 10), (9, 9, 5, 2)), {"lhs_begin": "2", "rhs_begin": "2"}),
    CASE("transpose", (IMAGE,)),
    CASE("transpose", (IMAGE,), {"axes": "(0, 2, 3, 1)"}),
    CASE("SwapAxis", (IMAGE,), {"dim1": "1", "dim2": "2"}),
    *(CASE("expand_dims", (IMAGE,), {"axis": axis}) for axis in ("1", "-1")),
    CASE("squeeze", ((2, 1, 3, 1),)),
    CASE("_npi_true_divide", SAME),
    CASE("squeeze", ((1, 1),)),
    CASE("squeeze", ((1,),), {"axis": "0"}),
    *(CASE(name, ((5,),), {"axis": "0"}) for name in ("sum", "mean", "max", "prod", "norm", "argmax")),
    CASE("mean", ((2, 3),), {"axis": "(0, 1)"}),
    CASE("pick", ((5,), (1,)), {"axis": "0"}, low=0, high=4),
    *(CASE("squeeze", ((2, 1, 3, 1),), {"axis": axis}) for axis in ("1", "(1, 3)")),
    CASE("Concat", (IMAGE, IMAGE), {"num_args": "2"}),
    CASE("Concat", (IMAGE, IMAGE), {"num_args": "2", "dim": "2"}),
    CASE("stack", (IMAGE, IMAGE), {"num_args": "2"}),
    CASE("stack", (IMAGE, IMAGE), {"num_args": "2", "axis": "1"}),
    *(
        CASE("Pad", (IMAGE,), {"mode": mode, "pad_width": "(0, 0, 0, 0, 1, 2, 3, 0)"})
        for mode in ("constant", "edge", "reflect")
    ),
    CASE(
        "Pad",
        (IMAGE,),
        {"mode": "constant", "pad_width": "(0, 0, 0, 0, 1, 1, 1, 1)", "constant_value": SEVENTH},
    ),
    CASE("tile", (SAME[0],), {"reps": "(2, 1, 3)"}),
    CASE("repeat", (SAME[0],), {"repeats": "2"}),
    CASE("repeat", (SAME[0],), {"repeats": "2", "axis": "1"}),
    CASE("reverse", (SAME[0],), {"axis": "(0, 2)"}),
    CASE("broadcast_to", ((2, 1, 3),), {"shape": "(0, 4, 0)"}),
    CASE("broadcast_like", ((2, 1, 3), (2, 4, 3))),
    CASE("broadcast_like", ((2, 1, 3), (4, 5)), {"lhs_axes": "(1,)", "rhs_axes": "(0,)"}),
    CASE("broadcast_axis", ((2, 1, 1),), {"axis": "(1, 2)", "size": "(4, 5)"}),
    CASE("depth_to_space", ((2, 8, 3, 4),), {"block_size": "2"}),
    CASE("space_to_depth", ((2, 3, 4, 6),), {"block_size": "2"}),
]
INDICES = [
    CASE("slice", (IMAGE,), {"begin": "(0, 0, 1, 1)", "end": "(None, None, None, None)"}),
    CASE("slice", (IMAGE,), {"begin": "(0, 1)", "end": "(2, -1)", "step": "(1, 2)"}),
    CASE("slice_axis", (IMAGE,), {"axis": "1", "begin": "0", "end": "3"}),
    CASE("slice_axis", (IMAGE,), {"axis": "1", "begin": "1", "end": "None"}),
    CASE("slice_axis", (IMAGE,), {"axis": "-2", "begin": "-3", "end": "-1"}),
    CASE("slice", (IMAGE,), {"begin": "(None, 3)", "end": "(None, 0)", "step": "(None, -2)"}),
    CASE("slice_like", (IMAGE, (1, 1, 5, 3)), {"axes": "(2, 3)"}),
    CASE("slice_like", (IMAGE, (1, 1, 5, 3)), {"axes": "(-2,)"}),
    CASE("slice_like", (IMAGE, (1, 1, 5, 3))),
    CASE("Crop", (IMAGE, (1, 1, 5, 3)), {"num_args": "2"}),
    CASE("Crop", (IMAGE, (1, 1, 5, 3)), {"num_args": "2", "offset": "(1, 2)"}),
    CASE("Crop", (IMAGE,), {"num_args": "1", "h_w": "(4, 5)", "offset": "(1, 2)"}),
    CASE("Crop", (IMAGE, (1, 1, 4, 3)), {"num_args": "2", "center_crop": "True"}),
    CASE("Crop", (IMAGE,), {"num_args": "1", "h_w": "(4, 5)", "center_crop": "True"}),
    CASE("_split_v2", (IMAGE,), {"indices": "(0, 1, 3)"}),
    CASE("_split_v2", (IMAGE,), {"indices": "(0, 4)", "axis": "2"}),
    CASE("_split_v2", (IMAGE,), {"indices": "()", "sections": "2"}),
    CASE("_split_v2", (IMAGE,), {"indices": "()", "sections": "4", "squeeze_axis": "True"}),
    CASE("SliceChannel", (IMAGE,), {"num_outputs": "2"}),
    CASE("SliceChannel", (IMAGE,), {"num_outputs": "3", "axis": "2"}),
    CASE("SliceChannel", (IMAGE,), {"num_outputs": "4", "squeeze_axis": "True"}),
    CASE("Embedding", ((3, 2), (4, 5)), {"input_dim": "4", "output_dim": "5"}, low=-1.5, high=5.5),
    *(
        CASE("take", ((4, 5), (3, 2)), {"axis": axis, "mode": mode}, low=-6, high=9)
        for axis in ("0", "1", "-1")
        for mode in ("clip", "wrap")
    ),
]
LOOKUPS = [
    *(
        CASE("pick", ((3, 5), (3,)), changed, low=-4, high=9)
        for changed in ({}, {"mode": "wrap"}, {"keepdims": "True"})
    ),
    CASE("pick", ((3, 5), (5,)), {"axis": "0"}, low=0, high=3),
    CASE("batch_take", ((3, 5), (3,)), low=-1, high=6, integers=(1,)),
    CASE("gather_nd", ((3, 4, 5), (2, 6)), low=0, high=2.9),
    CASE("one_hot", ((3, 2),), {"depth": "4"}, low=-1, high=5),
    CASE("one_hot", ((3, 2),), {"depth": "4"}, low=0, high=4, integers=(0,)),
    CASE(
        "one_hot",
        ((3, 2),),
        {"depth": "4", "on_value": SEVENTH, "off_value": "-0.1", "dtype": "float64"},
        low=0,
        high=4,
    ),
    CASE("one_hot", ((3, 2),), {"depth": "4", "dtype": "int32"}, low=0, high=4),
]
ORDERS = [
    *(
        CASE("topk", ((3, 6, 4),), changed)
        for changed in (
            {"k": "2"},
            {"k": "3", "axis": "1"},
            {"k": "2", "ret_typ": "both"},
            {"k": "2", "ret_typ": "value", "is_ascend": "True"},
            {"k": "2", "ret_typ": "mask", "axis": "1"},
            {"k": "5", "axis": "None"},
            {"k": "2", "ret_typ": "both", "dtype": "int32"},
        )
    ),
    *(
        CASE(name, ((3, 6, 4),), changed)
        for name in ("sort", "argsort")
        for changed in ({}, {"axis": "1"}, {"is_ascend": "False"}, {"axis": "None"})
    ),
    CASE("argsort", ((3, 6),), {"dtype": "int64"}),
    *(
        CASE(name, ((3, 6, 4),), changed)
        for name in ("argmax", "argmin")
        for changed in ({}, {"axis": "1"}, {"axis": "2", "keepdims": "True"})
    ),
    CASE("argmax_channel", ((3, 6),)),
]
CONSTANTS = [
    *(CASE(name, (), {"shape": "(2, 3)"}) for name in ("_zeros", "_ones")),
    CASE("_zeros", (), {"shape": "(2, 3)", "dtype": "int32"}),
    CASE("_full", (), {"shape": "(2, 3)", "value": "7"}),
    CASE("_full", (), {"shape": "(2, 3)", "value": "7", "dtype": "int32"}),
    CASE("_full", (), {"shape": "(2, 3)", "value": SEVENTH, "dtype": "float64"}),
    CASE("_eye", (), {"N": "3"}),
    CASE("_eye", (), {"N": "3", "M": "4"}),
    CASE("_arange", (), {"start": "5"}),
    CASE("_arange", (), {"start": "2", "stop": "9", "step": "3", "repeat": "2"}),
    CASE("_arange", (), {"start": TENTH, "stop": "2", "step": "0.3", "dtype": "float64"}),
    CASE("_arange", (), {"start": "2", "stop": "-3", "step": "-2", "dtype": "int64"}),
    CASE("_contrib_arange_like", ((3, 4),)),
    CASE("_contrib_arange_like", ((3, 4),), {"start": TENTH, "step": SEVENTH, "repeat": "2"}),
    CASE("_contrib_arange_like", ((3, 4),), {"axis": "-1"}),
    CASE("shape_array", (IMAGE,)),
    CASE("size_array", (IMAGE,)),
]
AXES: tuple[dict[str, str], ...] = (
    {},
    {"axis": "1"},
    {"axis": "(1, 2)"},
    {"axis": "1", "keepdims": "True"},
    {"keepdims": "True"},
)
REDUCTIONS = [
    *(CASE(name, (IMAGE,), changed) for name in ("sum", "max", "min", "mean", "nansum") for changed in AXES),
    *(CASE(name, (IMAGE,), {"axis": "1", "exclude": "True"}) for name in ("sum", "max", "mean", "nansum")),
    *(
        CASE("prod", ((2, 3, 4),), changed)
        for changed in ({}, {"axis": "1"}, {"axis": "(0, 1)"}, {"axis": "(0, 1)", "keepdims": "True"})
    ),
    *(
        CASE("norm", ((2, 3, 4),), changed)
        for changed in ({}, {"axis": "1"}, {"ord": "1", "axis": "-1", "keepdims": "True"}, {"axis": "(0, 1)"})
    ),
    *(CASE("cumsum", ((2, 3, 4),), changed) for changed in ({}, {"axis": "1"})),
    *(CASE("dot", ((3, 4), (5, 3)), {"transpose_a": a, "transpose_b": b}) for a, b in (("True", "True"),)),
    CASE("dot", ((4, 3), (3, 5))),
    CASE("dot", ((2, 4, 3), (3, 5))),
    *(CASE("batch_dot", ((2, 4, 3), (2, 3, 5)), changed) for changed in ({}, {"transpose_a": "False"})),
    CASE("batch_dot", ((2, 3, 4), (2, 5, 3)), {"transpose_a": "True", "transpose_b": "True"}),
]
CASES = [
    *CONVOLUTIONS,
    *NORMALIZATIONS,
    *POOLS,
    *ACTIVATIONS,
    *ELEMENTWISE,
    *SHAPES,
    *INDICES,
    *LOOKUPS,
    *ORDERS,
    *CONSTANTS,
    *BOXES,
    *REGION_CASES,
    *SEQUENCES,
    *SAMPLES,
    *REDUCTIONS,
]
