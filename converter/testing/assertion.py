"""Assert that weights agree with Gluon parameters, in a project's own tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from converter.commands import parity_check
from converter.parity import json_report, report
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from torch import nn


def assert_parity(  # noqa: PLR0913 - a checkpoint or a module, and the options of the comparison
    name: str | PathLike[str],
    params: str | PathLike[str] | None = None,
    weights: str | PathLike[str] | None = None,
    *,
    module: nn.Module | None = None,
    symbol: str | PathLike[str] | None = None,
    output: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    reference: str = "auto",
    sizes: Sequence[int | tuple[int, int]] = (),
    dtypes: Sequence[str] = (),
    gluon_python: str | PathLike[str] | None = None,
    report_file: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Compare GluonCV parameters, or a graph, with a checkpoint or a module; return the JSON document.

    Args:
        name: the model, or a graph: a ``-symbol.json``, MXNet's prefix of it, a folder or an archive.
        params: its ``.params`` file; that of a graph is found by its name.
        weights: ``.safetensors`` or ``.pth`` file, or a folder with one. Without ``weights`` and
            ``module``, the output of ``convert`` is compared.
        module: any float32 module whose layers have the names of torchvision and timm, or of the module
            that is generated from a graph.
        symbol: graph of a model's parameters; by default it is searched for in their folder.
        output: the node in which the network of a graph ends.
        input_shapes: the shapes of a graph's inputs, by name; by default they are derived from it.
        reference: "auto", "gluon" or "numpy".
        sizes: input sizes in pixels, each (height, width) or one number for both; by default (65, 95).
        dtypes: precisions to compare in, "float32" and "float64"; by default both.
        gluon_python: interpreter that has GluonCV; by default ``GLUON_PYTHON`` of the environment.
        report_file: file for an HTML report, written before any ``AssertionError`` is raised. It needs
            the extra ``report``.

    Raises:
        AssertionError: if a tensor or a layer differs; the message names the first mismatching layer.
        ConversionError: if nothing can be compared.
        UsageError: if both weights and a module are given, or if another argument is not valid.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    if report_file is not None:
        report.require_libraries()
    document = parity_check.check(
        name,
        params=params,
        weights=weights,
        module=module,
        model_options={"symbol": symbol},
        graph_options={"output": output, "input_shapes": input_shapes},
        options=ParityOptions(reference, sizes=sizes, dtypes=dtypes, gluon_python=gluon_python),
    )
    if report_file is not None:
        report.write(document, Path(report_file))
    if not document.agrees:
        raise AssertionError("\n".join([json_report.sentence(document), *json_report.problems(document)]))
    result: dict[str, Any] = json.loads(msgspec.json.encode(document))
    return result
