"""Provide the parameters of a recorded network: a file, random ones, or those that GluonCV published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter import names
from converter.errors import UsageError
from converter.networks import recorded_heads, synthetic
from converter.sources import gluoncv_zoo, params_file

if TYPE_CHECKING:
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.recorded_graphs import RecordedNetwork
    from converter.progress import Progress
    from converter.sources.params_file import ParamsFile


def take(
    network: RecordedNetwork, params: Path | None, seed: int | None, folder: Path, progress: Progress
) -> ParamsFile:
    """Return the parameters of a network: a file, random ones, or those that GluonCV published.

    Args:
        network: the network.
        params: the file, None for another source.
        seed: the seed of random parameters, None for another source.
        folder: where temporary files are written.
        progress: called as bytes are read.

    Raises:
        UsageError: if a file and random parameters are requested, or if random ones would be meaningless.
        SourceError: if the published ones are not available.
    """
    if params is not None and seed is not None:
        raise UsageError("`params` and `random` cannot be used together", "params", "random")
    if params is not None:
        return params_file.from_file(params, folder, progress)
    if seed is None:
        return gluoncv_zoo.take(network.published, folder, progress)
    path = folder / f"{network.name}.random-{seed}.params"
    return params_file.from_arrays(random_arrays(network, seed), path, progress)


def random_arrays(network: RecordedNetwork, seed: int) -> dict[str, Array]:
    """Return random parameters in float32, by structural name, in the order of ``save_parameters``.

    Raises:
        UsageError: if the network has parameters that are no weights, such as the anchors of a detector.
    """
    arrays = random_weights(network, seed)
    if constants := [each.name for each in network.parameters if each.name not in arrays]:
        raise UsageError(
            f"{network.name}: `random` cannot replace {names.collapse(constants)[0]}, which is not a weight; "
            "use `params`",
            "random",
            "params",
        )
    return arrays


def random_weights(network: RecordedNetwork, seed: int) -> dict[str, Array]:
    """Return random weights in float32, by structural name, without the parameters that are no weights."""
    graph = network.graph
    roles = {name: role for node in graph.nodes for role, name in graph.parameters_of(node).items()}
    head = recorded_heads.find(network)
    weights = {each.variable: each.shape for each in network.parameters if each.variable in roles}
    arrays = synthetic.random_arrays(
        {name: (roles[name], shape) for name, shape in weights.items()},
        graph.parameters_of(head)["weight"] if head else None,
        seed,
    )
    return {each.name: arrays[each.variable] for each in network.parameters if each.variable in arrays}
