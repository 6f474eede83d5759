"""Trains graphs in MXNet for one step: ``python training_outputs.py REQUESTS RESULTS``, two pickles.

A request is the graph, its arguments and auxiliary states in float64, and the gradient of its output. A
result has the output, the gradients of the arguments, and the auxiliary states afterwards.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

from converter.references.gluon_child import import_frameworks

mxnet = import_frameworks().mxnet


def step(content: bytes, values: dict[str, Any], gradient: Any) -> dict[str, Any]:  # noqa: ANN401 - arrays
    """Run a graph forward and backward in training mode."""
    symbol = mxnet.sym.load_json(content.decode())
    arrays = {name: mxnet.nd.array(value, dtype="float64") for name, value in values.items()}
    arguments = {name: arrays[name] for name in symbol.list_arguments()}
    gradients = {name: mxnet.nd.zeros_like(array) for name, array in arguments.items()}
    states = {name: arrays[name] for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(mxnet.cpu(), arguments, gradients, "write", states)
    (output,) = executor.forward(is_train=True)
    executor.backward([mxnet.nd.array(gradient, dtype="float64")])
    return {
        "output": output.asnumpy(),
        "gradients": {name: array.asnumpy() for name, array in gradients.items()},
        "states": {name: array.asnumpy() for name, array in states.items()},
    }


if __name__ == "__main__":
    requests = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301 - written by the test
    Path(sys.argv[2]).write_bytes(pickle.dumps([step(*request) for request in requests]))
    os._exit(0)  # skips MXNet's shutdown
