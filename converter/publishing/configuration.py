"""Build ``config.json``: for timm, or of a generated module, which no library loads by its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.manifests import converted_file
from converter.publishing import timm_config

if TYPE_CHECKING:
    from converter.manifests.schema import Manifest
    from converter.networks.catalog import Model


def document(manifest: Manifest, model: Model | None) -> dict[str, Any]:
    """Return the configuration of a converted file.

    Args:
        manifest: its manifest.
        model: its model, None for a generated module.
    """
    if model is not None:
        return timm_config.document(model, manifest.labels, converted_file.normalization(manifest))
    graph, shapes = manifest.source.graph, manifest.input_shapes
    return {
        "module": manifest.module.file if manifest.module else None,
        "inputs": {name: list(shapes.get(name, ())) or None for name in (graph.inputs if graph else ())},
        "outputs": list(graph.outputs) if graph else [],
    }
