"""Parity for a test suite: one call, in a project's own tests."""

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


def assert_parity(  # noqa: PLR0913 - a checkpoint or a module, and the terms of the comparison
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
    """Compare GluonCV's parameters with a checkpoint or a module, and return all findings.

    ``params`` is a ``.params`` file of the model ``name``; ``weights`` a ``.safetensors`` or ``.pth`` file;
    ``module`` any module in float32 whose layers have torchvision's and timm's names. With neither, what
    ``convert`` would write is compared. ``symbol`` is the graph of the parameters; without it one is
    searched for in their folder. ``sizes`` are (height, width) in pixels. The report is written before
    anything is raised.
    Errors: ``AssertionError`` with the first layer apart; ``ConversionError`` where nothing can be compared;
    ``ValueError`` for weights and a module at once, or terms that there are not.
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
    found = json_report.build(parity_check.compare(request))
    if report_file is not None:
        report.write(found, Path(report_file))
    if not found["agrees"]:
        raise AssertionError("\n".join([json_report.sentence(found), *json_report.problems(found)]))
    return found
