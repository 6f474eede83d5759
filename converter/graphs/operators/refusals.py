"""Operators that are refused by name, with the reason."""

from __future__ import annotations

RANDOM = (
    *("_sample_exponential", "_sample_gamma", "_sample_generalized_negative_binomial", "_sample_multinomial"),
    *("_sample_negative_binomial", "_sample_normal", "_sample_poisson", "_sample_uniform", "_shuffle"),
    *("_random_exponential", "_random_gamma", "_random_generalized_negative_binomial", "_random_normal"),
    *("_random_negative_binomial", "_random_poisson", "_random_randint", "_random_uniform"),
    *("_random_normal_like", "_random_uniform_like", "normal", "uniform"),
)
INT8 = (
    *("_contrib_quantize", "_contrib_quantize_v2", "_contrib_dequantize", "_contrib_requantize"),
    *("_contrib_quantized_act", "_contrib_quantized_batch_norm", "_contrib_quantized_concat"),
    *("_contrib_quantized_conv", "_contrib_quantized_elemwise_add", "_contrib_quantized_elemwise_mul"),
    *("_contrib_quantized_embedding", "_contrib_quantized_flatten", "_contrib_quantized_fully_connected"),
    *("_contrib_quantized_pooling", "_sg_mkldnn_conv", "_sg_mkldnn_fully_connected"),
)
LOSSES = ("WarpCTC", "CTCLoss", "_contrib_CTCLoss", "_contrib_ctc_loss", "ctc_loss", "_npx_ctc_loss")

REASONS = {
    "Custom": "runs Python code that the graph does not contain",
    "_Native": "runs Python code that the graph does not contain",
    "_NDArray": "runs Python code that the graph does not contain",
    **dict.fromkeys(RANDOM, "draws random numbers"),
    **dict.fromkeys(INT8, "computes in int8"),
    **dict.fromkeys(LOSSES, "computes a CTC loss, in training only"),
}
