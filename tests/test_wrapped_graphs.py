"""The graph of a file with several heads must use the head that is converted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from symbols import counted_names, symbol

from converter.errors import SymbolError
from converter.formats.params import save_params
from converter.networks import loading
from converter.networks.selection import ParamsSource
from converter.progress import silent
from converter.sources import params_file

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.loading import LoadedModel


@pytest.fixture
def two_heads(tiny: Model, tiny_params: dict[str, Array]) -> dict[str, Array]:
    """Return index-based parameters with a second head of the same shape."""
    arrays = {name: tiny_params[structural] for structural, name in counted_names(tiny).items()}
    second = {
        name.replace("dense0", "dense1"): array + np.float32(1)
        for name, array in arrays.items()
        if "dense0" in name
    }
    return arrays | second


def load(model: Model, arrays: dict[str, Array], names: dict[str, str], folder: Path) -> LoadedModel:
    """Load parameters with the graph of these names."""
    save_params(arrays, folder / "net-0000.params")
    (folder / "net-symbol.json").write_text(json.dumps(symbol(model, names)))
    file = params_file.from_file(folder / "net-0000.params", folder, silent)
    return loading.load_model(ParamsSource(model, folder / "net-0000.params"), file)


def test_graph_with_the_first_head_is_matched(
    tiny: Model, two_heads: dict[str, Array], tmp_path: Path
) -> None:
    loaded = load(tiny, two_heads, counted_names(tiny), tmp_path)
    assert loaded.source.wiring is not None
    assert np.array_equal(loaded.state["fc.bias"], two_heads["net0_dense0_bias"])


def test_graph_with_another_head_is_refused(tiny: Model, two_heads: dict[str, Array], tmp_path: Path) -> None:
    names = {structural: name.replace("dense0", "dense1") for structural, name in counted_names(tiny).items()}
    with pytest.raises(
        SymbolError, match=r"(?s)assigns parameters to other layers.*output\.weight: .*dense1_weight"
    ):
        load(tiny, two_heads, names, tmp_path)


def test_graph_that_names_no_head_of_a_file_with_several_is_refused(
    tiny: Model, tiny_params: dict[str, Array], tmp_path: Path
) -> None:
    second = {f"fc.{role}": tiny_params[f"output.{role}"] + np.float32(1) for role in ("weight", "bias")}
    names = {structural: name.replace("dense0", "dense1") for structural, name in counted_names(tiny).items()}
    with pytest.raises(SymbolError, match="has several heads, and the graph names none of them"):
        load(tiny, tiny_params | second, names, tmp_path)
