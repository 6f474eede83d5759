"""Find a supported network nested in a larger one, or saved under other names.

The names differ if the network was saved within another one, if only its ``features`` were saved, or if its
children were put in a list. Detectors and segmentation networks contain a backbone and no classifier.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter import names
from converter.errors import MappingError
from converter.networks import detection, heads, naming_styles
from converter.networks.arrangements import ARRANGEMENTS, WHOLE, Arrangement
from resnext_torch import HEAD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model
    from converter.networks.heads import Head
    from converter.networks.mapping import Mapping
    from converter.networks.naming_styles import NamingStyle

CHILD = re.compile(r"(?P<list>(?:[a-z_][^.]*\.)*)(?P<number>[0-9]{1,4})\.")
# The layers of a ResNet without parameters, which would have some if another layer were in their place.
PLAIN_LAYERS = ("relu", "maxpool", "avgpool", "flat", "drop")
MAX_PLACES = 300  # in a file, at which a network is looked for
# GluonCV's segmentation networks dilate their backbone to an output stride of 8: their other parts, and the
# prefix of index-based names.
# Source: gluoncv/model_zoo/{segbase,fcn,pspnet,deeplabv3,icnet,danet}.py, dmlc/gluon-cv 56777561.
SEGMENTATION_PART = re.compile(
    r"(auxlayer|psp_head|conv_sub[124])\.|head\.(block|psp|aspp|conv(5[ac12]?|[678])|s[ac]|cff_(12|24)|conv_cls)\."
)
SEGMENTATION_PREFIX = re.compile(r"(fcn|pspnet|deeplabv3|icnet|danet)[0-9]+_resnetv1[bs]_")
SEGMENTATION_STRIDE = 8
# An SSD runs the third stage of its ResNet v1b without stride. These are the names of its anchors.
# Source: gluoncv/model_zoo/ssd/{resnet_v1b_ssd,anchor}.py, dmlc/gluon-cv 56777561.
SSD_ANCHORS = re.compile(
    r"(.*_)?ssdanchorgenerator[0-9]+_anchor_[0-9]+|(.*\.)?anchor_generators\.[0-9]+\.anchors"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """A known network in a file.

    Attributes:
        model: the network, with the classes of its head; with 0 classes only the backbone.
        names: {structural name: name in the file}; a missing bias of the head is zero.
        prefix: the prefix of index-based names, "" for structural names.
        place: what precedes the network's names, such as "model.".
        arrangement: where the network's parts are.
        head: the layer that was found as the head, None without a head.
        own_head: the name of the head in the network's own place, "" if there is none.
        own_head_names: the names of that layer's parameters, empty if it is not in the file.
        own_head_fits: whether that layer is a dense layer on the backbone's features.
        rest: the other names in the file.
    """

    model: Model
    names: dict[str, str]
    prefix: str = ""
    place: str = ""
    arrangement: Arrangement = WHOLE
    head: Head | None = None
    own_head: str = ""
    own_head_names: tuple[str, ...] = ()
    own_head_fits: bool = False
    rest: tuple[str, ...] = ()

    @property
    def is_backbone(self) -> bool:
        """Whether the network has no head."""
        return self.head is None

    @property
    def is_one_of_several_heads(self) -> bool:
        """Whether the file has other heads than the one that was found."""
        return self.head is not None and bool(self.head.unused)

    @property
    def zeros(self) -> tuple[str, ...]:
        """The structural names of the parameters that the file lacks and that are zero."""
        return tuple(
            tensor.source for tensor in self.model.mapping.tensors if tensor.source not in self.names
        )

    @property
    def is_dilated(self) -> bool:
        """Whether this is the backbone of one of GluonCV's segmentation networks."""
        inside = [name.removeprefix(self.place) for name in self.rest if name.startswith(self.place)]
        is_segmentation = (
            self.arrangement == WHOLE
            and len(inside) == len(self.rest) > 0
            and all(map(SEGMENTATION_PART.match, inside))
        )
        is_resnet = self.model.config.cardinality == 1
        has_prefix = SEGMENTATION_PREFIX.fullmatch(self.prefix) is not None
        return self.is_backbone and is_resnet and (is_segmentation or has_prefix)

    @property
    def has_own_strides(self) -> bool:
        """Whether the network in the file runs with the strides of the model, as far as is known."""
        return self.arrangement.has_own_strides and not any(map(SSD_ANCHORS.fullmatch, self.rest))

    def describe(self) -> str:
        """Return where the network is in the file, in one line."""
        text = f"the backbone of {self.model.name} without a head" if self.is_backbone else self.model.name
        if self.arrangement.description:
            text += f": {self.arrangement.description}"
        if self.place:
            text += f" behind `{names.printable(names.clipped(self.place))}`"
        if self.head is not None and (self.rest or self.head.layer != self.own_head):
            several = " of several" if self.rest else ""
            text += f", head `{names.printable(names.clipped(self.head.layer))}`{several}"
        if self.zeros:
            text += ", whose head has no bias"
        if not self.has_own_strides:
            text += ", which the SSD runs with stride 1 in place of 2 in its third stage"
        return text

    def with_names(self, file_names: dict[str, str]) -> Wrapping:
        """Return the same with the names in the file, which an export marks with ``arg:`` or ``aux:``."""
        return replace(
            self,
            names={name: file_names[plain] for name, plain in self.names.items()},
            own_head_names=tuple(file_names[plain] for plain in self.own_head_names),
            rest=tuple(file_names[plain] for plain in self.rest),
        )

    def without_head(self) -> Wrapping:
        """Return the backbone alone."""
        backbone = self.model.with_config(num_classes=0)
        kept = backbone.mapping.to_target().keys()
        dropped = tuple(name for structural, name in self.names.items() if structural not in kept)
        return replace(
            self,
            model=backbone,
            names={structural: name for structural, name in self.names.items() if structural in kept},
            head=None,
            rest=(*self.rest, *dropped),
        )


def find(arrays: Arrays, models: Collection[Model], file: str) -> list[Wrapping]:
    """Return every known network in a file, with its head where it is certain which one it is.

    Args:
        arrays: the parameters by their names in the file.
        models: the networks to look for.
        file: the file, for messages.
    """
    if not any(array.ndim == detection.CONV_DIMENSIONS for array in arrays.values()):
        return []
    file_names = naming_styles.plain(arrays)
    params = {plain: arrays[name] for plain, name in file_names.items()}
    fitting = [model for model in models if len(_backbone_mapping(model).tensors) <= len(params)]
    found = [*_structural(params, fitting), *_index_based(params, fitting, file)]
    unique: dict[tuple[str, frozenset[str]], Wrapping] = {}
    for wrapping in sorted(found, key=lambda each: each.is_backbone):  # with its head, if any view has one
        named = wrapping.with_names(file_names)
        unique.setdefault((named.model.name, frozenset(named.without_head().names.values())), named)
    return list(unique.values())


def _structural(params: Arrays, models: Collection[Model]) -> Iterator[Wrapping]:
    """Yield the networks with structural names."""
    searches = [
        (model, arrangement, first)
        for model in models
        for arrangement in ARRANGEMENTS
        if (first := arrangement.rename(_first_parameter(model))) is not None
    ]
    places = _places(params, {first for _, _, first in searches})
    for model, arrangement, first in searches:
        # All parts are renamed only where a file has the first: networks times arrangements are hundreds.
        renamed = _rename_backbone(model, arrangement) if places[first] else {}
        for place in places[first]:
            backbone = {structural: f"{place}{name}" for structural, name in renamed.items()}
            if (found := _backbone(model, backbone, params)) and not _has_more_layers(
                place, arrangement, renamed, params
            ):
                own = "" if arrangement.description else f"{place}{_head_layer(model)}"
                yield _wrapping(found, backbone, params, own, place=place, arrangement=arrangement)


def _backbone_mapping(model: Model) -> Mapping:
    return model.with_config(num_classes=0).mapping


def _first_parameter(model: Model) -> str:
    """Return the structural name of a network's first parameter, which its backbone has."""
    return _backbone_mapping(model).tensors[0].source


def _rename_backbone(model: Model, arrangement: Arrangement) -> dict[str, str]:
    """Return {structural name: name in the other network} of the backbone, empty if a part has no place."""
    structural = _backbone_mapping(model).to_target()
    renamed = {name: other for name in structural if (other := arrangement.rename(name)) is not None}
    return renamed if len(renamed) == len(structural) else {}


def _head_layer(model: Model) -> str:
    """Return the structural name of a network's head."""
    return model.mapping.to_source().get(HEAD, "").rpartition(".")[0]


def _places(params: Iterable[str], anchors: Collection[str]) -> dict[str, list[str]]:
    """Return the prefixes of every name that ends with the name of a network's first parameter."""
    places: dict[str, list[str]] = defaultdict(list)
    for name in params:
        for anchor in anchors:
            is_at_place = name == anchor or name.endswith(f".{anchor}")
            if is_at_place and len(places[anchor]) < MAX_PLACES:
                places[anchor].append(name[: -len(anchor)])
    return places


def _backbone(model: Model, backbone: dict[str, str], params: Arrays) -> Model | None:
    """Return a model without head, with the channels of the first convolution; None if a shape differs."""
    if not backbone or not all(name in params for name in backbone.values()):
        return None
    first = params[next(iter(backbone.values()))].shape
    channels = first[1] if len(first) == detection.CONV_DIMENSIONS else 0
    if not channels:
        return None
    headless = model.with_config(num_classes=0, in_chans=channels)
    shapes = headless.source_shapes
    return headless if all(params[name].shape == shapes[own] for own, name in backbone.items()) else None


def _has_more_layers(
    place: str, arrangement: Arrangement, renamed: dict[str, str], params: Iterable[str]
) -> bool:
    """Return whether a backbone's parts, or layers between them, have parameters that it lacks."""
    parts = {part for part in arrangement.places.values() if part} or {
        name.partition(".")[0] for name in renamed.values()
    }
    prefixes = tuple(f"{part}." for part in (*parts, *PLAIN_LAYERS))
    last: dict[str, int] = {}  # child of each list, by the list's name
    for name in renamed.values():
        if match := CHILD.match(name):
            last[match["list"]] = max(int(match["number"]), last.get(match["list"], 0))
    expected = {f"{place}{name}" for name in renamed.values()}
    others = (name[len(place) :] for name in params if name.startswith(place) and name not in expected)
    return any(name.startswith(prefixes) or _is_between(name, last) for name in others)


def _is_between(name: str, last: dict[str, int]) -> bool:
    """Return whether a name is that of a child of a list before the list's last child."""
    match = CHILD.match(name)
    return match is not None and int(match["number"]) < last.get(match["list"], 0)


def _index_based(params: Arrays, models: Collection[Model], file: str) -> Iterator[Wrapping]:
    """Yield the networks with index-based names, which a child's name may precede: ``0.conv0_weight``."""
    for (child, prefix), group in naming_styles.index_based_groups(params).items():
        dense = naming_styles.dense_layers(group)
        layers = tuple(f"{layer}_" for _, layer in dense)
        body = {name: each for name, each in group.items() if not name.startswith(layers)}
        style, whole = naming_styles.read_index_based(body, file), {*group.values()}
        # The network's own head is the first dense layer, unless one was replaced.
        is_whole = [number for number, _ in dense] == list(range(len(dense)))
        place = f"{child}." if child else ""
        own = f"{place}{dense[0][1]}" if dense and is_whole else ""
        if prefix and any(name.startswith(f"{place}{prefix}") and name not in whole for name in params):
            continue  # other layers of the same network
        for model in models:
            names_in_file = _resolve(style, model)
            if found := _backbone(model, names_in_file, params):
                yield _wrapping(found, names_in_file, params, own, place=place, prefix=prefix)


def _resolve(style: NamingStyle, model: Model) -> dict[str, str]:
    """Return {structural name: name in the file} of a backbone, empty if the layers are others."""
    mapping = _backbone_mapping(model)
    try:
        resolved = style.resolve(mapping)
    except MappingError:
        return {}
    return resolved if resolved.keys() == mapping.to_target().keys() else {}


def _wrapping(  # noqa: PLR0913 - what both kinds of names have in common
    backbone: Model,
    names_in_file: dict[str, str],
    params: Arrays,
    own_head: str,
    *,
    place: str,
    prefix: str = "",
    arrangement: Arrangement = WHOLE,
) -> Wrapping:
    """Add the head to a backbone that was found."""
    used = {*names_in_file.values()}
    rest = {name: array for name, array in params.items() if name not in used}
    own = {name: rest[name] for name in heads.names_of(own_head, rest)}
    head = heads.find(rest, own_head, backbone.config.features)
    model = backbone
    if head is not None:
        model = backbone.with_config(num_classes=rest[head.names["weight"]].shape[0])
        roles = {tensor.source: tensor.source_role for tensor in model.mapping.tensors}
        names_in_file = names_in_file | {
            source: head.names[role]
            for source, role in roles.items()
            if source not in names_in_file and role in head.names
        }
    return Wrapping(
        model=model,
        names=names_in_file,
        prefix=prefix,
        place=place,
        arrangement=arrangement,
        head=head,
        own_head=own_head,
        own_head_names=tuple(own),
        own_head_fits=heads.find(own, own_head, backbone.config.features) is not None,
        rest=tuple(rest) if head is None else head.unused,
    )
