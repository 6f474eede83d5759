"""Parity assertion for a project's own tests."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from converter.choices import ReferenceChoice
from converter.commands import parity_check
from converter.networks import catalog
from converter.networks.loading import ParamsSource
from converter.parity import json_report, report, runner
from converter.parity.result import LIMITS, SMALLEST
from converter.parity.runner import ParityOptions
from converter.references.probes import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from torch import nn

    from converter.parity.json_report import Document


def assert_parity(  # noqa: PLR0913 - a checkpoint or a module, and the options of the comparison
    name: str,
    params: str | PathLike[str],
    weights: str | PathLike[str] | None = None,
    *,
    module: nn.Module | None = None,
    symbol: str | PathLike[str] | None = None,
    reference: str = "auto",
    sizes: Sequence[tuple[int, int]] = (runner.DEFAULT_PROBES[0].size,),
    dtypes: Sequence[str] = ("float32", "float64"),
    gluon_python: str | PathLike[str] | None = None,
    report_file: str | PathLike[str] | None = None,
) -> Document:
    """Compare GluonCV parameters with a checkpoint or a module; return the result's JSON document.

    Args:
        name: the model.
        params: ``.params`` file of the model.
        weights: ``.safetensors`` or ``.pth`` file. Without ``weights`` and ``module``, the output of
            ``convert`` is compared.
        module: any float32 module whose layers have the names of torchvision and timm.
        symbol: graph of the parameters; by default it is searched for in their folder.
        reference: "auto", "gluon" or "numpy".
        sizes: (height, width) of the inputs, in pixels.
        dtypes: precisions to compare in: "float32", "float64".
        gluon_python: interpreter that has GluonCV; by default ``GLUON_PYTHON`` of the environment.
        report_file: file for an HTML report, written before any ``AssertionError`` is raised.

    Raises:
        AssertionError: if a tensor or a layer differs; the message names the first mismatching layer.
        ConversionError: if nothing can be compared.
        ValueError: if both weights and a module are given, or if another argument is not valid.
    """
    if weights is not None and module is not None:
        raise ValueError("weights or a module, not both")
    if reference == ReferenceChoice.none:
        raise ValueError("a reference is needed: auto, gluon or numpy")
    if not dtypes or not set(dtypes) <= LIMITS.keys():
        raise ValueError(f"dtypes: some of {', '.join(LIMITS)} expected, {dtypes!r} found")
    if not sizes or not all(isinstance(size, tuple) and min(size) >= SMALLEST for size in sizes):
        raise ValueError(f"sizes: (height, width) of at least {SMALLEST} pixels expected, {sizes!r} found")
    python = gluon_python or os.environ.get("GLUON_PYTHON")
    probes = tuple(Probe(dtype, size) for dtype, size in itertools.product(dtypes, sizes))
    request = parity_check.ComparisonRequest(
        ParamsSource(catalog.find(name), Path(params), symbol=None if symbol is None else Path(symbol)),
        None if weights is None else Path(weights),
        module,
        ParityOptions(ReferenceChoice(reference), probes, None if python is None else Path(python)),
    )
    document = json_report.build(parity_check.compare(request))
    if report_file is not None:
        report.write(document, Path(report_file))
    if not document["agrees"]:
        raise AssertionError("\n".join([json_report.sentence(document), *json_report.problems(document)]))
    return document
