from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import torch

from converter.networks import catalog, matching, synthetic
from resnext_torch import ResNeXt

if TYPE_CHECKING:
    from converter.dtypes import Array
    from converter.networks.catalog import Model
    from converter.networks.mapping import Mapping

# Of all arrays in order, with seed 0. A change means that every seeded artifact changes.
SHA256 = "81be2da23522d524f297605b43849fc622dbd399e3ccaf8cbcf9801fd29200f9"


def test_seed_gives_the_same_bits_everywhere(tiny_params: dict[str, Array]) -> None:
    digest = hashlib.sha256()
    for array in tiny_params.values():
        digest.update(array.tobytes())
    assert digest.hexdigest() == SHA256


def test_another_seed_gives_other_values(
    tiny: Model, tiny_mapping: Mapping, tiny_params: dict[str, Array]
) -> None:
    other = synthetic.random_params(tiny_mapping, tiny.shapes, seed=1)
    assert all((other[name] != array).any() for name, array in tiny_params.items())


SMALL = (  # one per family; tests/parity covers the full sizes
    *("gluon_resnext50_32x4d", "gluon_seresnext50_32x4d"),
    *("gluon_resnet18_v1b", "gluon_resnet50_v1d", "gluon_cifar_resnext29_32x4d"),
)


@pytest.mark.parametrize("name", SMALL)
def test_logits_have_a_moderate_deviation(name: str) -> None:
    model = catalog.find(name)
    params = synthetic.random_params(model.mapping, model.shapes, seed=0)
    state = matching.rename(model.mapping, params, model.shapes, "random")
    with torch.device("meta"):
        network = ResNeXt(model.config)
    network.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()}, assign=True)
    with torch.inference_mode():
        logits = network.eval()(torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    assert 0.5 < float(logits.std()) < 4  # measured: 0.8 … 2.5
    assert (
        float((logits[0] - logits[1]).std()) > 0.001
    )  # the output depends on the input; measured 0.004 … 0.04
