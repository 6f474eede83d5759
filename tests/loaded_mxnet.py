"""Imports MXNet and GluonCV; imported by the process whose forks run the tests' MXNet programs."""

from __future__ import annotations

from converter.references.gluon_child import import_frameworks

import_frameworks()
