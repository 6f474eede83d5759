"""Names the inputs that MXNet adds to the nodes of files older than 0.9: labels, parameters, statistics.

Source: UpgradeJSON_000800_000900 in src/nnvm/legacy_json_util.cc, apache/mxnet 1.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.graphs.graph import Operation

LABEL = "label"
MXNET_ROLES = {"running_mean": "moving_mean", "running_var": "moving_var"}  # the others have MXNet's names


def missing(operation: Operation, count: int) -> list[str]:
    """Return MXNet's names of the inputs that a node with ``count`` inputs lacks, if all can be added."""
    if operation.data_inputs is None:
        return []
    data = operation.data_inputs - int(operation.takes_label)
    added = [LABEL] * operation.takes_label + [MXNET_ROLES.get(role, role) for role in operation.roles]
    return added[count - data :] if count >= data else []
