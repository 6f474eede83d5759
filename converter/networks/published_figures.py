"""The figures that GluonCV published for its models, from ``mappings/gluoncv/figures.toml``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

from converter.errors import CatalogError
from converter.networks import mapping

if TYPE_CHECKING:
    from pathlib import Path

FILE = "gluoncv/figures.toml"
PUBLISHER = "GluonCV model zoo"
IMAGENET = "ImageNet-1k validation, 224 px centre crop"  # of the figures in mappings/*.toml
TOP1, TOP5 = "top-1", "top-5"


class FiguresTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of GluonCV's documentation.

    Attributes:
        file: its file in GluonCV's docs/model_zoo/csv_tables.
        data: the data on which the models were evaluated.
        metrics: the names of the figures, the most important first.
        digits: the number of digits after the point that the figures have at least.
        models: the figures of each model, in the order of ``metrics``.
    """

    file: str
    data: str
    metrics: tuple[str, ...]
    digits: int = 1
    models: dict[str, tuple[float, ...]]


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a model.

    Attributes:
        data: the data on which the model was evaluated.
        values: {name of a figure: value}, the most important first.
        digits: the number of digits after the point that the values have at least.
    """

    data: str
    values: dict[str, float]
    digits: int

    @property
    def source(self) -> str:
        """Who published the figures, and the data."""
        return f"{PUBLISHER}, {self.data}"

    def text(self, metric: str) -> str:
        """Return a figure with its digits, "—" if it was not published."""
        if metric not in self.values:
            return "—"
        value = self.values[metric]
        _, _, decimals = repr(value).partition(".")
        return f"{value:.{max(self.digits, len(decimals))}f}"


@cache
def figures() -> dict[str, ModelFigures]:
    """Return the figures by GluonCV's name of the model; those in ``mappings/*.toml`` are not among them."""
    return by_model(tables(mapping.folder() / FILE), FILE)


def tables(path: Path) -> dict[str, FiguresTable]:
    """Return the tables in a file.

    Raises:
        CatalogError: if the file is invalid, with the dotted place.
    """
    try:
        return msgspec.convert(mapping.load(path)[0], dict[str, FiguresTable])
    except msgspec.ValidationError as error:
        raise CatalogError(f"{path.name}: {error}") from error


def by_model(tables: dict[str, FiguresTable], file: str) -> dict[str, ModelFigures]:
    """Return the figures of each model.

    Raises:
        CatalogError: if a model is in two tables, or has another number of figures than its table.
    """
    result: dict[str, ModelFigures] = {}
    for key, table in tables.items():
        for name, values in table.models.items():
            if name in result:
                raise CatalogError(f"{file}: {key}.models: {name} is in two tables")
            if len(values) != (expected := len(table.metrics)):
                raise CatalogError(
                    f"{file}: {key}.models: {name}: expected {expected} figures, found {len(values)}"
                )
            result[name] = ModelFigures(
                data=table.data,
                values=dict(zip(table.metrics, values, strict=True)),
                digits=table.digits,
            )
    return result
