"""Locate the weights in a checkpoint: below a key, behind a common prefix of the names.

Training programs save them in many ways: beside the optimizer's state, twice (weights and their moving
average), or as part of a larger module, such as ``model.`` in a LightningModule.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from converter import names
from converter.errors import CheckpointError, NoStateDictError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")  # keys of the weights in checkpoints
PREFIXES = ("module.", "_orig_mod.")  # of every name, by DataParallel and by torch.compile


class Location(Struct, frozen=True, kw_only=True):
    """Where the weights are in a checkpoint.

    Attributes:
        key: the key of their state dict, with dots between nested keys; None if it is the file itself.
        prefix: the common prefix that was removed from the names; None if there was none.
        ignored: the names of the state dict's other entries.
    """

    key: str | None = None
    prefix: str | None = None
    ignored: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describe the location in one line; "" for the file itself."""
        shown = names.shorten(names.collapse(self.ignored), 3)
        parts = (
            f"state dict {self.key}" if self.key else "",
            f"prefix {self.prefix} removed from the names" if self.prefix else "",
            f"ignored {', '.join(shown)}" if shown else "",
        )
        return "; ".join(filter(None, parts))


TOP_LEVEL = Location()


@dataclass(frozen=True, slots=True)
class NetworkNames:
    """The names of a network's tensors, and those that may be missing."""

    tensors: frozenset[str]
    optional: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Entries:
    """Entries of a checkpoint that may be a network's weights.

    Attributes:
        key: the key of the state dict, "" for the file itself.
        prefix: the prefix of the names.
        state: the state dict.
        values: the entries with the prefix, by name without it.
    """

    key: str
    prefix: str
    state: dict[Any, Any]
    values: dict[Any, Any]

    @property
    def path(self) -> str:
        """The argument of ``--key`` that selects the entries."""
        return ".".join(filter(None, (self.key, self.prefix.removesuffix("."))))

    def has_arrays(self) -> bool:
        """Return whether any entry is an array."""
        return any(hasattr(value, "shape") for value in self.values.values())

    def below(self, prefix: str) -> _Entries:
        """Return the entries with a further prefix."""
        values = {
            name.removeprefix(prefix): value
            for name, value in self.values.items()
            if isinstance(name, str) and name.startswith(prefix)
        }
        return _Entries(self.key, self.prefix + prefix, self.state, values)

    def ignored(self) -> tuple[str, ...]:
        """Return the names of the state dict's other entries."""
        return tuple(str(name) for name in self.state if not str(name).startswith(self.prefix))


def locate(
    content: dict[Any, Any], file: str, key: str | None, networks: Collection[NetworkNames]
) -> tuple[dict[str, Any], Location]:
    """Return the entries of a checkpoint that are weights, by name without prefix, and their location.

    These are the entries whose names are exactly those of a network. If there are none, the state dict
    under one of ``WRAPPERS`` is returned, or else the file itself.

    Args:
        content: the checkpoint.
        file: the file, for messages.
        key: the key of the state dict, or a prefix of its names without the last dot; dots separate nested
            keys. None to search for it.
        networks: the networks.

    Raises:
        CheckpointError: if there are several state dicts, or a name is not text.
        NoStateDictError: if there is none under the key.
    """
    groups = [*_state_dicts(content)]
    selected = groups if key is None else [*_select(groups, key)]
    if not selected:
        raise _no_such_key(file, str(key), groups)
    matches = [match for group in selected for match in _network_entries(group, networks)]
    if len(matches) > 1:
        raise _ambiguous(file, matches)
    entries = matches[0] if matches else _likely(selected, file, key, networks)
    if key_types := [type(name).__name__ for name in entries.values if not isinstance(name, str)]:
        raise CheckpointError(f"{file}: expected names of type str, found {key_types[0]}")
    is_chosen = key is not None and entries.path == key
    ignored = () if is_chosen else entries.ignored()
    return entries.values, Location(key=entries.key or None, prefix=entries.prefix or None, ignored=ignored)


def _state_dicts(content: dict[Any, Any]) -> Iterator[_Entries]:
    """Yield the file itself and every dict in it; one that occurs under several keys, under each."""
    queue = deque([("", content)])
    expanded: set[int] = set()
    while queue:
        key, state = queue.popleft()
        yield _Entries(key, "", state, state)
        if id(state) not in expanded:
            expanded.add(id(state))
            queue.extend(
                (f"{key}.{name}" if key else name, value)
                for name, value in state.items()
                if isinstance(name, str) and isinstance(value, dict)
            )


def _select(groups: Iterable[_Entries], key: str) -> Iterator[_Entries]:
    """Yield the state dicts under a key, or the entries whose names begin with it."""
    for group in groups:
        if key and (group.key == key or group.key.startswith(f"{key}.")):
            yield group
        elif not group.key or key.startswith(f"{group.key}."):
            part = group.below(f"{key.removeprefix(group.key).removeprefix('.')}.")
            if part.values:
                yield part


def _network_entries(group: _Entries, networks: Collection[NetworkNames]) -> Iterator[_Entries]:
    """Yield every part of a state dict whose names are, behind a prefix, exactly those of a network."""
    known = frozenset[str]().union(*(network.tensors for network in networks))
    names_by_prefix: dict[str, set[str]] = {}
    for name in group.values:
        for prefix in _prefixes(name) if isinstance(name, str) else ():
            if (rest := name[len(prefix) :]) in known:
                names_by_prefix.setdefault(prefix, set()).add(rest)
    for prefix, found in names_by_prefix.items():
        if any(network.tensors - network.optional <= found <= network.tensors for network in networks):
            part = group.below(prefix)
            if len(part.values) == len(found):
                yield part


def _prefixes(name: str) -> Iterator[str]:
    """Yield "" and every prefix of a name that ends with a dot."""
    parts = name.split(".", names.MAX_PARTS)[:-1]
    return itertools.accumulate((f"{part}." for part in parts), initial="")


def _likely(
    groups: list[_Entries], file: str, key: str | None, networks: Collection[NetworkNames]
) -> _Entries:
    """Return the state dict that is selected or has a usual key, for messages and for other networks."""
    wrapped = [group for group in groups if key is None and group.key in WRAPPERS]
    if len(wrapped) > 1:
        raise _ambiguous(file, wrapped)
    entries = (wrapped or groups)[0]
    strings = [name for name in entries.values if isinstance(name, str)]
    if not strings or len(strings) < len(entries.values):
        return entries
    columns = zip(*(name.split(".", names.MAX_PARTS)[:-1] for name in strings), strict=False)
    common = [column[0] for column in itertools.takewhile(lambda column: len({*column}) == 1, columns)]
    known = frozenset[str]().union(*(network.tensors for network in networks))
    prefixes = [*itertools.accumulate((f"{part}." for part in common), initial="")]
    for prefix in prefixes:  # most names are a network's: the others are named in the mismatch
        if sum(name[len(prefix) :] in known for name in strings) * 2 > len(strings):
            return entries.below(prefix)
    wrappers = itertools.takewhile(lambda part: f"{part}." in PREFIXES, common)
    return entries.below("".join(f"{part}." for part in wrappers))


def _ambiguous(file: str, groups: list[_Entries]) -> CheckpointError:
    lines = names.shorten([group.path or "the file itself" for group in groups])
    example = next(group.path for group in groups if group.path)
    hint = f"select one, for example with --key {names.printable(names.clipped(example))}"
    return CheckpointError("\n  ".join([f"{file}: contains more than one state dict", *lines, hint]))


def _no_such_key(file: str, key: str, groups: list[_Entries]) -> NoStateDictError:
    paths = [group.path for group in groups if group.path and group.has_arrays()]
    hint = "select one of these with --key" if paths else "its tensors have no key: leave out --key"
    return NoStateDictError("\n  ".join([f"{file}: has no state dict {key}", *names.shorten(paths), hint]))
