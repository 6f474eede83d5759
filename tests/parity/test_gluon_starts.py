"""`doctor` starts the real GluonCV."""

from __future__ import annotations

import converter


def test_gluon_runs() -> None:
    gluon, _ = converter.doctor().references
    assert gluon.runs, gluon.detail
    assert gluon.versions["mxnet"] == "1.9.1"
