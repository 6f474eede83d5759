"""Cases of the operators of detectors and of networks for sequences."""

from __future__ import annotations

from operator_case import IMAGE, SEVENTH, TENTH
from operator_case import OperatorCase as CASE  # noqa: N814 - a table of them is easier to read

SCORES = ((0, 0, 3), (1, -0.5, 1))  # classes and scores
BOXES = [
    CASE("_contrib_box_decode", ((2, 5, 4), (1, 5, 4)), {"std0": TENTH, "std2": "0.2", "clip": "0.3"}),
    CASE("_contrib_box_decode", ((2, 5, 4), (1, 5, 4)), {"std1": SEVENTH, "std3": TENTH, "format": "corner"}),
    CASE("_contrib_box_iou", ((3, 4), (5, 4)), low=0),
    CASE("_contrib_box_iou", ((2, 3, 4), (5, 4)), {"format": "center"}, low=0),
    *(
        CASE("_contrib_box_nms", ((2, 30, 6),), changed, low=-0.3, scores=SCORES, boxes=(0,))
        for changed in (
            {},
            {"overlap_thresh": "0.2", "valid_thresh": TENTH, "id_index": "0"},
            {"overlap_thresh": "0.2", "topk": "12", "id_index": "0", "force_suppress": "True"},
            {"overlap_thresh": TENTH, "out_format": "center"},
        )
    ),
    *(
        CASE("_contrib_box_nms", ((2, 30, 6),), changed, low=-0.3, scores=SCORES)
        for changed in (
            {"overlap_thresh": TENTH, "in_format": "center"},
            {"overlap_thresh": TENTH, "in_format": "center", "out_format": "center"},
            {"overlap_thresh": TENTH, "coord_start": "1", "score_index": "5"},
        )
    ),
    CASE(
        "_contrib_box_nms",
        ((2, 30, 6),),
        {"overlap_thresh": "0.2", "id_index": "0", "background_id": "1"},
        whole_columns=(0,),
        boxes=(0,),
        scores=SCORES,
    ),
    *(
        CASE("_contrib_MultiBoxPrior", ((1, 2, 3, 4),), changed)
        for changed in (
            {},
            {"sizes": "(0.2, 0.37)", "ratios": "(1,2,0.5)"},
            {"sizes": "(0.2, 0.7)", "ratios": "(2, 3)", "clip": "True"},
            {"sizes": "[0.2]", "steps": "(0.1, 0.2)", "offsets": "(0.3, 0.4)"},
        )
    ),
    *(
        CASE(
            "_contrib_MultiBoxDetection",
            ((2, 4, 20), (2, 80), (1, 20, 4)),
            changed,
            low=0,
            high=1,
            boxes=(2,),
        )
        for changed in (
            {},
            {"clip": "False", "threshold": SEVENTH, "nms_threshold": "0.2"},
            {"nms_topk": "12", "force_suppress": "True", "nms_threshold": "0.05"},
            {"variances": "(0.3, 0.2, 0.1, 0.4)", "nms_threshold": "0.2"},
            {"nms_threshold": "0"},
        )
    ),
]
REGIONS = (
    (0, 0.3, 0.7, 5.2, 6.9),
    (1, 2, 1, 3, 9),
    (0, -2, -3, 20, 20),
    (1, 4, 4, 4.1, 4.2),
    (0, 5, 5, 9, 9),
)
DEFORMED = {"kernel": "(3, 2)", "num_filter": "6"}
REGION_CASES = [
    *(
        CASE("_contrib_ROIAlign", (IMAGE, (5, 5)), {"pooled_size": "(3, 2)"} | changed, second=REGIONS)
        for changed in (
            {"spatial_scale": "0.5", "sample_ratio": "2"},
            {"spatial_scale": SEVENTH},
            {"spatial_scale": "1", "aligned": "True", "sample_ratio": "3"},
        )
    ),
    *(
        CASE("ROIPooling", (IMAGE, (5, 5)), {"pooled_size": "(3, 2)", "spatial_scale": scale}, second=REGIONS)
        for scale in ("0.5", "1")
    ),
    *(
        CASE(
            "_contrib_DeformableConvolution",
            ((2, 4, 6, 5), (2, 12 * groups, *size), (6, 4, 3, 2), (6,)),
            DEFORMED | changed,
        )
        for changed, groups, size in (
            ({}, 1, (4, 4)),
            ({"stride": "(2, 1)", "pad": "(1, 1)"}, 1, (3, 6)),
            ({"dilate": "(2, 1)", "pad": "(1, 0)"}, 1, (4, 4)),
            ({"num_deformable_group": "2"}, 2, (4, 4)),
        )
    ),
    CASE(
        "_contrib_DeformableConvolution",
        ((2, 4, 6, 5), (2, 12, 4, 4), (6, 2, 3, 2)),
        DEFORMED | {"num_group": "2", "no_bias": "True"},
    ),
    *(
        CASE(
            "_contrib_ModulatedDeformableConvolution",
            ((2, 4, 6, 5), (2, 12 * groups, *size), (2, 6 * groups, *size), (6, 4, 3, 2), (6,)),
            DEFORMED | changed,
        )
        for changed, groups, size in (
            ({}, 1, (4, 4)),
            ({"stride": "(2, 1)", "pad": "(1, 1)"}, 1, (3, 6)),
            ({"dilate": "(2, 1)", "pad": "(1, 0)"}, 1, (4, 4)),
            ({"num_deformable_group": "2"}, 2, (4, 4)),
        )
    ),
    CASE(
        "_contrib_ModulatedDeformableConvolution",
        ((2, 4, 6, 5), (2, 12, 4, 4), (2, 6, 4, 4), (6, 2, 3, 2)),
        DEFORMED | {"num_group": "2", "no_bias": "True"},
    ),
]
STEPS = (5, 3, 4)
SEQUENCES = [
    CASE(
        "RNN", (STEPS, (288,), (1, 3, 6), (1, 3, 6)), {"mode": "lstm", "state_size": "6", "num_layers": "1"}
    ),
    CASE(
        "RNN",
        (STEPS, (1152,), (4, 3, 6)),
        {
            "mode": "gru",
            "state_size": "6",
            "num_layers": "2",
            "bidirectional": "True",
            "state_outputs": "True",
        },
    ),
    CASE(
        "RNN",
        (STEPS, (624,), (2, 3, 6), (2, 3, 6)),
        {"mode": "lstm", "state_size": "6", "num_layers": "2", "state_outputs": "True"},
    ),
    *(
        CASE(
            "RNN",
            (STEPS, (72,), (1, 3, 6)),
            {"mode": mode, "state_size": "6", "num_layers": "1"},
            single=mode == "rnn_relu",
        )
        for mode in ("rnn_tanh", "rnn_relu")
    ),
    CASE("_rnn_param_concat", ((4,), (6,)), {"num_args": "2", "dim": "0"}),
    *(
        CASE(name, ((5, 3, 4), (3,)), {"use_sequence_length": "True"}, second=(2, 5, 1))
        for name in ("SequenceMask", "SequenceLast", "SequenceReverse")
    ),
    *(CASE(name, ((5, 3, 4),)) for name in ("SequenceMask", "SequenceLast", "SequenceReverse")),
    *(  # lengths are truncated
        CASE(name, ((5, 3, 4), (3,)), {"use_sequence_length": "True"}, second=(2.7, 5, 1.2))
        for name in ("SequenceMask", "SequenceLast", "SequenceReverse")
    ),
    CASE("SequenceLast", ((3, 5, 4),), {"axis": "1"}),
    CASE("SequenceLast", ((3, 5, 4), (3,)), {"axis": "1", "use_sequence_length": "True"}, second=(2, 5, 1)),
    CASE(
        "SequenceMask",
        ((3, 5, 4), (3,)),
        {"axis": "1", "use_sequence_length": "True", "value": SEVENTH},
        second=(2, 5, 1),
    ),
]
SAMPLES = [
    CASE("GridGenerator", ((2, 6),), {"transform_type": "affine", "target_shape": "(4, 5)"}),
    CASE("GridGenerator", ((2, 2, 4, 5),), {"transform_type": "warp"}),
    CASE("BilinearSampler", (IMAGE, (2, 2, 4, 5)), low=-1.2, high=1.2),
    CASE(
        "SpatialTransformer",
        (IMAGE, (2, 6)),
        {"transform_type": "affine", "sampler_type": "bilinear", "target_shape": "(4, 5)"},
        low=-1,
        high=1,
    ),
]
