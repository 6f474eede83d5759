"""The part of a manifest that only weights for an existing module have."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from converter.manifests.hashes import Sha256  # noqa: TC001 - evaluated
from converter.targets.adaptation import Adaptation  # noqa: TC001 - evaluated


class RuleRecord(Struct, frozen=True, kw_only=True):
    """A rule by which tensors were computed, and which changes no output.

    Attributes:
        rule: its name.
        layers: the nodes of the graph to which it was applied.
    """

    rule: str
    layers: tuple[str, ...]


class LayerTableRecord(Struct, frozen=True, kw_only=True):
    """The table of layers that took the place of an alignment."""

    file: str
    sha256: Sha256


class TargetRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The module that the weights are for.

    Attributes:
        name: how it was requested: timm:NAME, torchvision:NAME or package.module:NAME.
        arguments: the keyword arguments that it was built with.
        versions: versions of its package and of torch.
        layers: number of layers that were aligned.
        symmetric: number of them that were told apart only by the order of computation.
        rules: the rules by which tensors were computed.
        adaptations: the settings that were changed on the module.
        differences: the settings of the graph and the module that differ.
        others: names of the tensors that no parameter became: zero biases, counters, the module's buffers.
        single: names of the nodes that MXNet computes in float32 only, for which the limit is 1e-6.
        table: the table of layers; absent if the layers were aligned.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.-]*\Z")]
    arguments: dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")], Any]
    versions: dict[str, str]
    layers: Annotated[int, Meta(ge=1)]
    symmetric: Annotated[int, Meta(ge=0)] = 0
    rules: tuple[RuleRecord, ...] = ()
    adaptations: tuple[Adaptation, ...] = ()
    differences: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    table: LayerTableRecord | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What determines the module: its name, its arguments and the settings that are changed."""
        settings = sorted((each.module, each.setting, str(each.value)) for each in self.adaptations)
        return self.name, self.arguments, settings
