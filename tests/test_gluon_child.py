"""The script that runs GluonCV, as far as it can be tested without GluonCV."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest

from converter.references import gluon, gluon_child
from converter.references.gluon_child import HiddenModules, NumericVersion

if TYPE_CHECKING:
    from pathlib import Path


def test_numpy_gets_the_removed_names_that_mxnet_uses() -> None:
    bare = types.ModuleType("numpy")
    vars(bare).update({successor: object() for successor in gluon_child.NUMPY_RENAMED.values()})
    gluon_child.provide_numpy_names(bare)
    assert bare.bool is bool
    assert all(
        getattr(bare, name) is getattr(bare, successor)
        for name, successor in gluon_child.NUMPY_RENAMED.items()
    )
    assert all(hasattr(bare, name) for name in (*gluon_child.NUMPY_VALUES, *gluon_child.NUMPY_REMOVED))


def test_existing_numpy_name_is_kept() -> None:
    old = types.ModuleType("numpy")
    vars(old).update(msort="its own")
    gluon_child.provide_numpy_names(old)
    assert old.msort == "its own"


@pytest.mark.parametrize(
    ("older", "newer"), [("1.9.1", "2.0.0"), ("1.9.1", "1.10"), ("1.4.0", "1.9.1.post0")]
)
def test_versions_compare_numerically(older: str, newer: str) -> None:
    assert NumericVersion(older) < NumericVersion(newer)
    assert NumericVersion(newer) >= NumericVersion(older)
    assert NumericVersion(older) == NumericVersion(older)
    assert not NumericVersion(older) == NumericVersion(newer)  # noqa: SIM201 - tests __eq__ itself


@pytest.mark.parametrize("name", ["torch", "scipy.stats"])
def test_hidden_packages_raise_module_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"{name} is hidden from GluonCV"):
        HiddenModules().find_spec(name)
    HiddenModules().find_spec("json")


def test_distutils_version_classes_are_provided() -> None:
    program = """\
from converter.references.gluon_child import provide_distutils
provide_distutils()
from distutils.version import LooseVersion, StrictVersion
print(LooseVersion("1.9.1") < StrictVersion("2.0.0"))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True\n"


def test_missing_mxnet_is_reported_in_the_reply(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(json.dumps({"runs": []}))
    program = """\
import runpy, sys
from pathlib import Path
sys.modules["mxnet"] = None  # as if it were not installed
runpy.run_path(sys.argv[1])["main"](Path(sys.argv[2]))
"""
    subprocess.check_call([sys.executable, "-c", program, gluon.CHILD, tmp_path])
    reply = json.loads((tmp_path / "reply.json").read_text())
    assert reply == {"unavailable": "ModuleNotFoundError: import of mxnet halted; None in sys.modules"}
