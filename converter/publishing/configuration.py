"""Build ``config.json``: for timm, or of a generated module, which no library loads by its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.manifests import converted_file, schema
from converter.publishing import timm_config

if TYPE_CHECKING:
    from converter.manifests.schema import AnyManifest
    from converter.networks.catalog import Model


def document(manifest: AnyManifest, model: Model | None) -> dict[str, Any]:
    """Return the configuration of a converted file.

    Args:
        manifest: its manifest.
        model: its model, None for a generated module.

    Raises:
        ArtifactError: if a trained file has no model.
    """
    if model is not None:
        return timm_config.document(model, manifest.labels, converted_file.recorded_input(manifest))
    conversion = schema.require_conversion(manifest.artifact.file, manifest)
    graph, shapes = conversion.source.graph, conversion.input_shapes
    return {
        "module": conversion.module.file if conversion.module else None,
        "inputs": {name: list(shapes.get(name, ())) or None for name in (graph.inputs if graph else ())},
        "outputs": list(graph.outputs) if graph else [],
    }
