"""The JSON document of ``gluon2torch list``: what is known about each model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from converter.choices import Task  # noqa: TC001 - msgspec evaluates the annotations
from converter.networks import figures
from converter.networks.figures import ComputedRecord, InputRecord  # noqa: TC001 - as Task
from converter.networks.published_figures import TOP1, TOP5
from converter.networks.zoo import TargetKind

if TYPE_CHECKING:
    from converter.networks.zoo import ZooModel

REFERENCES = {TargetKind.native: "gluoncv", TargetKind.generated: "graph", None: None}


class PublishedAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """The accuracy that GluonCV published, in percent; null without any."""

    top1: float | None
    top5: float | None


class TargetNames(msgspec.Struct, frozen=True, kw_only=True):
    """The names of a network in packages that have it; null where it is missing."""

    resnext_torch: str | None
    timm: str | None
    torchvision: str | None


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model, as ``gluon2torch list`` describes it.

    Attributes:
        model: its name; that in GluonCV if the target is not native.
        gluon: its name in GluonCV.
        task: what it is for.
        family: the short name of its family.
        target: what ``convert NAME`` makes of it: a network of resnext_torch, or a module that is generated
            from the recorded graph; null if it does not convert it.
        convertible: whether ``convert NAME`` converts it.
        reason: why it does not, null if it does.
        target_names: its names as a PyTorch network, null if no package has it.
        mapping: the file of ``mappings/`` that renames its parameters, for its network of resnext_torch or
            with ``convert --target``; null without one.
        proven_against: what a conversion is compared with, GluonCV or the recorded graph; null without a
            target.
        parameters: number of trainable scalars, null if it is not known.
        params_sha1: SHA-1 of the published parameters, null if none were published.
        published: the accuracy that GluonCV published.
        figures: all figures that GluonCV published, by name.
        note: a remark.
        computed: computed figures, null if the target is not native.
        input: the input, null if the target is not native.
        published_source: where the figures are published, null without any.
    """

    model: str
    gluon: str
    task: Task
    family: str
    target: TargetKind | None
    convertible: bool
    reason: str | None
    target_names: TargetNames | None
    mapping: str | None
    proven_against: str | None
    parameters: int | None
    params_sha1: str | None
    published: PublishedAccuracy
    figures: dict[str, float]
    note: str | None
    computed: ComputedRecord | None
    input: InputRecord | None
    published_source: str | None


def document(model: ZooModel) -> ListedModel:
    """Return what is known about a model."""
    native, published = model.native, model.figures
    values = published.values if published else {}
    return ListedModel(
        model=model.name,
        gluon=model.gluon,
        task=model.description.task,
        family=model.family,
        target=model.target,
        convertible=model.convertible,
        reason=model.reason or None,
        target_names=_target_names(model),
        mapping=native.mapping_file.name if native else next(iter(model.tables), None),
        proven_against=REFERENCES[model.target],
        parameters=model.parameters,
        params_sha1=model.sha1 or None,
        published=PublishedAccuracy(top1=values.get(TOP1), top5=values.get(TOP5)),
        figures=values,
        note=(native.entry.note or None) if native else None,
        computed=figures.computed(native) if native else None,
        input=figures.input_record(native) if native else None,
        published_source=published.source if published else None,
    )


def _target_names(model: ZooModel) -> TargetNames | None:
    found = TargetNames(
        resnext_torch=model.name if model.native else None, timm=model.timm, torchvision=model.torchvision
    )
    return found if any((found.resnext_torch, found.timm, found.torchvision)) else None
