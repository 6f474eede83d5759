"""Operators that are refused by name, with the reason."""

from __future__ import annotations

RANDOM = (
    *("_sample_exponential", "_sample_gamma", "_sample_generalized_negative_binomial", "_sample_multinomial"),
    *("_sample_negative_binomial", "_sample_normal", "_sample_poisson", "_sample_uniform", "_shuffle"),
    *("_sample_unique_zipfian", "sample_multinomial", "shuffle", "normal", "uniform"),
    *(
        f"{prefix}random_{name}{suffix}"
        for prefix in ("", "_")
        for name in (
            *("exponential", "gamma", "generalized_negative_binomial", "negative_binomial", "normal"),
            *("poisson", "randint", "uniform"),
        )
        for suffix in ("", "_like")
    ),
)
INT8 = (
    *("_contrib_quantize", "_contrib_quantize_v2", "_contrib_dequantize", "_contrib_requantize"),
    *("_contrib_quantized_act", "_contrib_quantized_batch_norm", "_contrib_quantized_concat"),
    *("_contrib_quantized_conv", "_contrib_quantized_elemwise_add", "_contrib_quantized_elemwise_mul"),
    *("_contrib_quantized_embedding", "_contrib_quantized_flatten", "_contrib_quantized_fully_connected"),
    *("_contrib_quantized_pooling", "_sg_mkldnn_conv", "_sg_mkldnn_fully_connected"),
)
LOSSES = ("WarpCTC", "CTCLoss", "_contrib_CTCLoss", "_contrib_ctc_loss", "ctc_loss", "_npx_ctc_loss")
CODE = ("Custom", "_CustomFunction", "_NDArray", "_Native")
CONTROL = ("_CachedOp", "_cond", "_foreach", "_while_loop")
TARGETS = ("_contrib_bipartite_matching", "_contrib_box_encode", "_contrib_mrcnn_mask_target")
REGIONS = ("_contrib_DeformablePSROIPooling", "_contrib_PSROIPooling", "_contrib_RROIAlign")
PROPOSALS = ("_contrib_MultiProposal", "_contrib_Proposal", "Proposal")
SPARSE = ("_contrib_SparseEmbedding", "_contrib_getnnz", "_square_sum", "cast_storage")

REASONS = {
    **dict.fromkeys(CODE, "runs Python code that the graph does not contain"),
    **dict.fromkeys(RANDOM, "draws random numbers"),
    **dict.fromkeys(INT8, "computes in int8"),
    **dict.fromkeys(LOSSES, "computes a CTC loss, in training only"),
    "softmax_cross_entropy": "computes a loss, in training only",
    **dict.fromkeys(CONTROL, "runs another graph"),
    **dict.fromkeys(TARGETS, "computes targets for training"),
    **dict.fromkeys(REGIONS, "pools regions in a way that is not supported"),
    **dict.fromkeys(PROPOSALS, "is not supported; its result depends on rounding in float32"),
    **dict.fromkeys(SPARSE, "computes with sparse arrays"),
    "Correlation": "is not supported",
    "_contrib_boolean_mask": "has an output whose shape depends on values",
}
