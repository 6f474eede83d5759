"""Render the model card of a published folder: Markdown with the Hugging Face Hub's metadata on top."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from converter.choices import LICENSE
from converter.errors import PublicationError
from converter.formats import artifact
from converter.manifests import converted_file, schema
from converter.manifests.schema import TrainedManifest
from converter.networks import figures
from converter.parity import json_report
from converter.publishing import timm_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from converter.manifests.converted_file import ConvertedFile
    from converter.manifests.schema import AnyManifest, Manifest
    from converter.manifests.training_records import BaseRecord
    from converter.networks.catalog import Entry, Model
    from resnext_torch.config import Config

TEMPLATE, MODULE_TEMPLATE, TRAINED_TEMPLATE = "card.md", "module_card.md", "trained_card.md"
LOCAL_ADDRESS = "local-dir:."
IMAGENET_CLASSES = 1000
LIBRARIES = {True: "timm", False: "pytorch"}  # by whether timm has the network
# Components by their names on paperswithcode, each with a test for whether a network contains it.
COMPONENTS: dict[str, Callable[[Config], bool]] = {
    "1x1 Convolution": lambda _: True,
    "Average Pooling": lambda config: config.shortcut_pool != "never",
    "Batch Normalization": lambda _: True,
    "Convolution": lambda _: True,
    "Dropout": lambda config: config.dropout > 0,
    "Global Average Pooling": lambda _: True,
    "Grouped Convolution": lambda config: config.cardinality > 1,
    "Max Pooling": lambda config: config.pool != "none",
    "ReLU": lambda _: True,
    "Residual Connection": lambda _: True,
    "Softmax": lambda _: True,
    "Squeeze-and-Excitation Block": lambda config: config.squeeze_excite,
}


class FamilyDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text of a card that is the same for all models of a family."""

    title: str
    text: str
    block: str
    paper: str
    arxiv: str
    authors: str
    year: int
    key: str
    dataset: str = "ImageNet"
    dataset_id: str = "imagenet-1k"


@dataclass(frozen=True, slots=True)
class CardOptions:
    """Facts for the card that are not in the converted file's manifest.

    Attributes:
        address: the address that timm loads the folder from, ``local-dir:PATH`` or ``hf-hub:ORG/NAME``.
        license: one of the Hub's license identifiers; None for GluonCV's, and for no statement about trained
            weights.
        report: the file name of the parity report in the folder, if there is one.
    """

    address: str = LOCAL_ADDRESS
    license: str | None = None
    report: str | None = None


def require_libraries() -> None:
    """Check, before any work, that jinja2 is installed, which the card needs.

    Raises:
        PublicationError: if it is missing, with the command that installs it.
    """
    if find_spec("jinja2") is None:
        raise PublicationError(
            'a model card needs jinja2, which cannot be found\n  try         pip install "gluon2torch[hub]"'
        )


def render(converted: ConvertedFile, options: CardOptions) -> str:
    """Return the card, which labels measured and published accuracies, and random and unproven weights.

    Raises:
        ArtifactError: if a trained file has no model.
    """
    manifest, model = converted.manifest, converted.model
    if options.license is None and not converted.trained:
        options = replace(options, license=LICENSE)
    if model is not None and isinstance(manifest, TrainedManifest):
        facts = _model_facts(converted, model) | _training_facts(manifest)
        return _render(TRAINED_TEMPLATE, manifest, options, facts)
    conversion = schema.require_conversion(converted.path, manifest)
    reference = json_report.describe_reference(conversion.parity.reference, conversion.parity.definition)
    if model is None:
        facts = _module_facts(conversion, options) | {"reference": reference}
        return _render(MODULE_TEMPLATE, manifest, options, facts)
    return _render(TEMPLATE, manifest, options, _model_facts(converted, model) | {"reference": reference})


def _render(template: str, manifest: AnyManifest, options: CardOptions, facts: dict[str, Any]) -> str:
    import jinja2  # noqa: PLC0415 - only cards and reports need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("converter.publishing"),
        autoescape=False,  # noqa: S701 - Markdown; text from files goes through `plain`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template(template).render(manifest=manifest, options=options, **facts)


def _module_facts(manifest: Manifest, options: CardOptions) -> dict[str, Any]:
    """Return what the card of a generated module says beyond its manifest."""
    graph, inputs = manifest.source.graph, manifest.input_shapes
    return {
        "graph": graph,
        "shapes": [inputs[name] for name in graph.inputs if name in inputs] if graph else [],
        "local": options.address == LOCAL_ADDRESS,
    }


def _training_facts(manifest: TrainedManifest) -> dict[str, Any]:
    """Return what the card of a trained model says beyond its manifest and that of other models."""
    base = manifest.training.base
    return {
        "training": manifest.training,
        "base": base,
        "base_origin": _describe_base(base) if base else None,
        "gluon": base is not None and base.source_sha1 is not None and not base.random,
    }


def _describe_base(base: BaseRecord) -> str:
    """Return what the base of a training run is, in one phrase."""
    if base.random:
        origin = "**random weights**"
    elif base.trained:
        origin = "weights from an earlier training run"
    elif base.source_sha1 is None:
        origin = "weights of unknown origin"
    else:
        owner = "GluonCV's published weights" if base.official else "weights that GluonCV did not publish"
        origin = f"{owner}, {'proven' if base.proven else 'unproven'} conversion"
    return f"`{base.model}` ({origin}, SHA-256 {base.sha256[: artifact.HASH_DIGITS]}…)"


def _model_facts(converted: ConvertedFile, model: Model) -> dict[str, Any]:
    """Return what the card of a model says beyond its manifest."""
    manifest = converted.manifest
    return {
        "converted": converted,
        "gluon": True,
        "model": model,
        "entry": _entry(model),
        "classes": model.config.num_classes,
        "imagenet": model.config.num_classes == IMAGENET_CLASSES and not manifest.labels,
        "family": family(model),
        "components": components(model),
        "cost": figures.cost(model, converted_file.recorded_input(manifest).get("input_size")),
        "preprocessing": figures.preprocessing(model) | converted_file.recorded_input(manifest),
        "file_bytes": manifest.artifact.bytes,
        "source": figures.SOURCE,
        "source_url": figures.SOURCE_URL,
        "convention": figures.CONVENTION,
        "architecture": timm_config.architecture(model),
        "library": LIBRARIES[timm_config.architecture(model) is not None],
    }


def _entry(model: Model) -> Entry:
    """Return a model's entry, for a dilated network without the accuracy, which was published undilated."""
    entry, stride = model.entry, model.arguments.get("output_stride")
    if stride is None:
        return entry
    note = f"The network is dilated: its output stride is {stride}. {entry.note}".strip()
    return msgspec.structs.replace(entry, top1=None, top5=None, note=note)


def family(model: Model) -> FamilyDescription:
    """Return the description of a model's family, which its mapping file determines."""
    return families()[model.mapping_file.stem]


def families() -> dict[str, FamilyDescription]:
    """Return the descriptions of all families, by the stems of their mapping files."""
    table = Path(__file__).with_name("families.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(table), dict[str, FamilyDescription])


def components(model: Model) -> list[str]:
    """Return the names of a network's components, in alphabetical order."""
    return sorted([family(model).block, *(name for name, is_in in COMPONENTS.items() if is_in(model.config))])


def plain(text: Any) -> str:  # noqa: ANN401 - any value in a template
    """Return text from a file as one line, with the markup of Markdown and HTML escaped."""
    printable = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))
    return "".join(f"&#{ord(char)};" if char in "<>&|`*[]" else char for char in printable)
