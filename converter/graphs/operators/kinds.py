"""The kinds of operation in the named networks."""

from __future__ import annotations

CONVOLUTION, BATCH_NORM, POOLING, DENSE = "convolution", "BatchNorm", "pooling", "dense"
ADD, MULTIPLY, RELU, SIGMOID = "sum", "product", "ReLU", "sigmoid"
SOFTMAX, FLATTEN, IDENTITY, DROPOUT = "softmax", "flatten", "identity", "dropout"

ACTIVATIONS = {
    "relu": RELU,
    "sigmoid": SIGMOID,
    "tanh": "tanh",
    "softrelu": "softplus",
    "softsign": "softsign",
}

# Operators that MXNet does not compute in float64, or only with a lower precision.
NO_FLOAT64 = {"BatchNorm_v1", "CuDNNBatchNorm", "Pooling_v1", "_contrib_SyncBatchNorm"}
