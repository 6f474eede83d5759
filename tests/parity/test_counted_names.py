"""Index-based names: GluonCV resolves them itself; for a replaced layer the order in the file decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from converter.choices import ReferenceChoice
from converter.commands import conversion
from converter.errors import MappingError, ParityError, SymbolError
from converter.formats.params import load_params, write_params
from converter.networks import catalog
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.networks.catalog import Model

NAME, REPLACED = "gluon_resnext50_32x4d", "gluon_resnet18_v1b"
FIRST, SECOND = '"body.1" = ["bn1", "batchnorm"]\n', '"body.4" = ["bn2", "batchnorm"]\n'


@pytest.fixture
def misordered_model(tmp_path: Path) -> Model:
    """Return the model with a mapping table that lists two BatchNorms of one shape in the wrong order."""
    model = catalog.find(NAME)
    text = model.mapping_file.read_text()
    assert (text.count(FIRST), text.count(SECOND)) == (1, 1)
    path = tmp_path / "resnext.toml"
    path.write_text(text.replace(FIRST, "(first)").replace(SECOND, FIRST).replace("(first)", SECOND))
    return replace(model, mapping_file=path)


@pytest.fixture
def without_graph(gluon_files: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that links a file into a folder without a graph."""

    def link(name: str) -> Path:
        (tmp_path / name).symlink_to(gluon_files / name)
        return tmp_path / name

    return link


def convert(model: Model, params: Path, out: Path, choice: ReferenceChoice) -> conversion.ConversionResult:
    return conversion.run(
        conversion.ConversionRequest(
            source=ParamsSource(model, params), out=out, options=ParityOptions(choice)
        )
    )


@pytest.mark.parametrize("file", ["prefix.params", "export-0000.params"])
def test_index_based_names_are_proven_against_gluoncv(gluon_files: Path, out: Path, file: str) -> None:
    manifest = convert(catalog.find(NAME), gluon_files / file, out, ReferenceChoice.gluon).manifest
    assert manifest.parity.proven is True
    assert manifest.source.dialect == file.split("-", maxsplit=1)[0].removesuffix(".params")


def test_misordered_table_fails_at_the_first_mismatched_layer(
    misordered_model: Model, without_graph: Callable[[str], Path], out: Path
) -> None:
    with pytest.raises(ParityError, match=r"first mismatch  features\.4\.0\.body\.4 "):
        convert(misordered_model, without_graph("prefix.params"), out, ReferenceChoice.gluon)
    assert list(out.iterdir()) == []


def test_structural_names_do_not_depend_on_the_table_order(
    misordered_model: Model, without_graph: Callable[[str], Path], out: Path
) -> None:
    manifest = convert(
        misordered_model, without_graph("ten-classes.params"), out, ReferenceChoice.gluon
    ).manifest
    assert manifest.parity.proven is True


def test_numpy_reference_cannot_detect_a_misordered_table(
    misordered_model: Model, without_graph: Callable[[str], Path], out: Path
) -> None:
    manifest = convert(misordered_model, without_graph("prefix.params"), out, ReferenceChoice.numpy).manifest
    assert manifest.parity.proven is True


@pytest.mark.parametrize("choice", [ReferenceChoice.gluon, ReferenceChoice.numpy, ReferenceChoice.none])
def test_graph_detects_a_misordered_table(
    choice: ReferenceChoice, misordered_model: Model, gluon_files: Path, out: Path
) -> None:
    with pytest.raises(SymbolError, match=r"expected  BatchNorm features\.4\.0\.body\.1 of"):
        convert(misordered_model, gluon_files / "prefix.params", out, choice)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("file", ["replaced-prefix.params", "replaced-0000.params"])
def test_replaced_layer_converts_identically_in_every_naming_style(
    gluon_files: Path, out: Path, tmp_path: Path, file: str
) -> None:
    structural = gluon_files / "replaced-structural.params"
    expected = convert(catalog.find(REPLACED), structural, tmp_path, ReferenceChoice.none).artifact
    result = convert(catalog.find(REPLACED), gluon_files / file, out, ReferenceChoice.gluon)
    assert result.artifact.name == expected.name
    assert result.manifest.parity.proven is True


def test_replaced_layer_in_unknown_order_is_refused(gluon_files: Path, out: Path, tmp_path: Path) -> None:
    arrays = load_params(gluon_files / "replaced-prefix.params")
    with (tmp_path / "sorted.params").open("wb") as stream:
        write_params(stream, dict(sorted(arrays.items())))
    with pytest.raises(MappingError, match=r"the layer numbers have gaps and .*\n  layers1: BatchNorms \["):
        convert(catalog.find(REPLACED), tmp_path / "sorted.params", out, ReferenceChoice.none)
