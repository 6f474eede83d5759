from __future__ import annotations

import pytest

from converter.dialects import detect, require_structural
from converter.errors import DialectError


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("features.4.0.body.1.gamma", "structural"),
        ("resnext0_stage1_batchnorm0_gamma", "prefix"),
        ("stage1_batchnorm0_gamma", "prefix"),
        ("arg:resnext0_conv0_weight", "export"),
        ("aux:features.1.running_mean", "export"),
    ],
)
def test_a_dialect_is_known_by_its_names(name: str, dialect: str) -> None:
    assert detect([name]) == dialect


def test_structural_names_pass() -> None:
    require_structural(["features.0.weight"], "holiday.params")


def test_other_dialects_are_refused_by_name() -> None:
    with pytest.raises(
        DialectError, match=r"^holiday.params: names in the prefix style, as resnext0_conv0_weight"
    ):
        require_structural(["resnext0_conv0_weight"], "holiday.params")
