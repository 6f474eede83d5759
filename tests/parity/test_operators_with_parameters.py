"""Operators whose parameters are parameters, not inputs: layers and recurrent cells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from graph_building import build, variable
from operator_cases import CASES

from converter.graphs import codegen, operators, pruning
from converter.parity import graph_proof
from converter.parity.graph_proof import ConvertedGraph

if TYPE_CHECKING:
    from operator_case import OperatorCase


def has_parameters(case: OperatorCase) -> bool:
    operation = operators.parse(case.operator, case.attributes)
    return bool(operation.roles) and len(case.shapes) > 1 and not case.integers


def one_of_each(cases: list[OperatorCase]) -> list[OperatorCase]:
    """Return one case of each operator, kind of cell and kind of layer."""
    kinds = {
        (
            case.operator,
            case.attributes.get("mode"),
            case.attributes.get("flatten"),
            len(case.shapes[0]),
        ): case
        for case in cases
    }
    return [*kinds.values()]


def convert(case: OperatorCase) -> tuple[ConvertedGraph, dict[str, object]]:
    operation = operators.parse(case.operator, case.attributes)
    names = [f"v{place}" for place in range(len(case.shapes))]
    arrays = dict(zip(names, case.arrays(), strict=True))
    count = operation.data_inputs or 1
    data, parameters = names[:count], names[count:]
    graph = build(*map(variable, names), (case.operator, "out", case.attributes, names), heads=["out"])
    pruned = pruning.prune(graph)
    module = codegen.generate(pruned.graph, {name: arrays[name].shape for name in parameters}, "net")
    converted = ConvertedGraph(
        whole=graph,
        pruned=pruned,
        module=module,
        parameters={name: arrays[name] for name in parameters},
    )
    return converted, {name: arrays[name] for name in data}


@pytest.mark.parametrize("case", one_of_each([case for case in CASES if has_parameters(case)]), ids=str)
def test_layer_is_proven_in_both_dtypes(case: OperatorCase) -> None:
    converted, inputs = convert(case)
    runs = [
        (dtype, {name: array.astype(dtype) for name, array in inputs.items()})  # type: ignore[attr-defined]
        for dtype in ("float64", "float32")
    ]
    graph_proof.prove(converted, runs, Path(sys.executable)).require()
