"""Runs MXNet's operators: ``python operator_outputs.py CASES OUTPUTS``, a pickle of cases and one of results.

A result is the list of an operator's outputs in float64, or in float32 if it has no float64 kernel, or the
text of MXNet's error.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

from converter.references.gluon_child import import_frameworks

frameworks = import_frameworks()
mxnet = frameworks.mxnet


def symbol(operator: str, attributes: dict[str, str], count: int) -> Any:  # noqa: ANN401 - MXNet has no types
    """Return the symbol of an operator with variables x0, x1, … as its inputs."""
    nodes: list[dict[str, Any]] = [{"op": "null", "name": f"x{n}", "inputs": []} for n in range(count)]
    inputs = [[number, 0, 0] for number in range(count)]
    nodes.append({"op": operator, "name": "out", "attrs": attributes, "inputs": inputs})
    content = {"nodes": nodes, "arg_nodes": [*range(count)], "heads": [[count, 0, 0]]}
    whole = mxnet.sym.load_json(json.dumps(content))
    outputs = whole.get_internals().list_outputs()
    return mxnet.sym.Group([output for output in whole.get_internals() if output.name == "out"]), outputs


def run(operator: str, attributes: dict[str, str], arrays: list[Any], dtype: str) -> list[Any]:
    """Return the outputs of an operator."""
    head, _ = symbol(operator, attributes, len(arrays))
    values = {
        f"x{n}": mxnet.nd.array(array, dtype=dtype if array.dtype.kind == "f" else array.dtype)
        for n, array in enumerate(arrays)
    }
    executor = head.bind(
        mxnet.cpu(),
        {name: values[name] for name in head.list_arguments()},
        grad_req="null",
        aux_states={name: values[name] for name in head.list_auxiliary_states()},
    )
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def attempt(operator: str, attributes: dict[str, str], arrays: list[Any]) -> list[Any] | str:
    """Return the outputs in the widest dtype that the operator has, or the error."""
    error = ""
    for dtype in ("float64", "float32"):
        try:
            return run(operator, attributes, arrays, dtype)
        except (mxnet.base.MXNetError, ValueError, TypeError) as failure:
            error = str(failure)
    return error


if __name__ == "__main__":
    cases = pickle.loads(Path(sys.argv[1]).read_bytes())  # noqa: S301 - written by the test
    Path(sys.argv[2]).write_bytes(pickle.dumps([attempt(*case) for case in cases]))
    os._exit(0)  # skips MXNet's shutdown
