"""Locate the networks that match a file's parameters, under GluonCV's names or in a wrapping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter.errors import DialectError
from converter.networks import catalog, detection, naming_styles, wrappings
from converter.networks.naming_styles import NamingStyle

if TYPE_CHECKING:
    from collections.abc import Collection

    from converter.formats.file_arrays import Arrays
    from converter.networks.catalog import Model
    from converter.networks.wrappings import Wrapping


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedNetwork:
    """A network that matches the parameters.

    Attributes:
        model: the network, with the config that the parameters show.
        naming: the names of its parameters in the file.
        wrapping: how the file differs from GluonCV's own, None if it does not.
    """

    model: Model
    naming: NamingStyle
    wrapping: Wrapping | None = None

    @property
    def is_backbone(self) -> bool:
        """Whether the network has no head."""
        return not self.model.config.num_classes

    @property
    def has_own_strides(self) -> bool:
        """Whether the file's network runs with the strides of the model, as far as is known."""
        return self.wrapping is None or self.wrapping.has_own_strides

    def with_output_stride(self, output_stride: int) -> LocatedNetwork:
        """Return the location of the same network with another output stride."""
        return replace(self, model=self.model.with_config(output_stride=output_stride))

    def describe(self) -> str:
        """Return what the network is and where it is in the file."""
        return self.wrapping.describe() if self.wrapping else self.model.name


def locate(
    arrays: Arrays, file: str, models: Collection[Model] | None = None, *, backbone: bool = False
) -> list[LocatedNetwork]:
    """Return every network that matches the parameters.

    Networks under GluonCV's own names take precedence over those in a wrapping.

    Args:
        arrays: the parameters by their names in the file.
        file: the file, for messages.
        models: the networks to look for, by default all.
        backbone: whether to return networks without their heads.
    """
    models = [*catalog.models().values()] if models is None else models
    if not backbone and (direct := _direct(arrays, file, models)):
        return direct
    found = wrappings.find(arrays, models, file)
    return [_in_wrapping(each.without_head() if backbone else each, arrays, file) for each in found]


def _direct(arrays: Arrays, file: str, models: Collection[Model]) -> list[LocatedNetwork]:
    try:
        naming = naming_styles.read(arrays, file)
    except DialectError:
        return []
    matches = (detection.match(model, arrays, naming) for model in models)
    return [LocatedNetwork(model=model, naming=naming) for model in matches if model]


def _in_wrapping(wrapping: Wrapping, arrays: Arrays, file: str) -> LocatedNetwork:
    dialect = naming_styles.dialect(arrays, wrapping.prefix)
    naming = NamingStyle(file, dialect, wrapping.prefix, structural=wrapping.names)
    model = wrapping.model
    if wrapping.is_dilated:
        model = model.with_config(output_stride=wrappings.SEGMENTATION_STRIDE)
    return LocatedNetwork(model=model, naming=naming, wrapping=wrapping)
