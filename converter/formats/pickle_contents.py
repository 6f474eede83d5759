"""Detect what a pickle contains from its opcodes, without executing it."""

from __future__ import annotations

import itertools
import pickletools
from typing import TYPE_CHECKING, BinaryIO, cast

from converter.formats.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pickletools import OpcodeInfo

TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first object of a checkpoint by torch before 1.6
MAX_OPERATIONS = 20_000  # the classes of the outer objects come first
MAX_OBJECT = 1 << 28  # bytes; the classes of the outer objects come before their contents
STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
# The kind of a pickle by the beginning of a module that it refers to; the first line that applies decides.
BY_MODULE = (
    ("autogluon.", Kind.predictor),
    ("gluoncv.auto.", Kind.estimator),
    ("mxnet.optimizer", Kind.optimizer_states),
    ("mxnet.", Kind.mxnet_pickle),
)
NUMPY = {"numpy", "_codecs", "collections"}  # the packages of a pickle of numpy arrays


def kind(stream: BinaryIO, size: int) -> Kind:
    """Return the kind of a pickle of ``size`` bytes; one that is damaged early counts as torch's."""
    modules: set[str] = set()
    try:
        for operation, argument, text in _operations(stream, size):
            if argument == TORCH_MAGIC:
                return Kind.torch
            if operation.name == "GLOBAL":
                modules.add(str(argument).partition(" ")[0])
            elif operation.name == "STACK_GLOBAL":
                modules.add(text)
    except (ValueError, OverflowError, MemoryError, UnicodeError):
        if not modules:
            return Kind.torch
    return _by_modules(modules)


def _by_modules(modules: set[str]) -> Kind:
    for begin, found in BY_MODULE:
        if any(module.startswith(begin) for module in modules):
            return found
    if any(module.startswith("torch") for module in modules):
        return Kind.torch
    is_numpy = "numpy" in modules and all(module.split(".")[0] in NUMPY for module in modules)
    return Kind.numpy_pickle if is_numpy else Kind.pickle


def _operations(stream: BinaryIO, size: int) -> Iterator[tuple[OpcodeInfo, object, str]]:
    """Yield the first operations, their arguments, and the text before the last one.

    Before a ``STACK_GLOBAL`` these two are the module and the class.
    """
    before, last = "", ""
    memo: dict[int, str] = {}
    operations = pickletools.genops(cast("BinaryIO", _Limited(stream, size)))
    for operation, argument, _ in itertools.islice(operations, MAX_OPERATIONS):
        yield operation, argument, before
        if operation.name in STRINGS:
            before, last = last, str(argument)
        elif operation.name == "MEMOIZE":
            memo[len(memo)] = last
        elif operation.name in {"BINPUT", "LONG_BINPUT"}:
            memo[cast("int", argument)] = last
        elif operation.name in {"BINGET", "LONG_BINGET"}:
            before, last = last, memo.get(cast("int", argument), "")


class _Limited:
    """A stream that refuses to read large objects, whatever length a pickle declares."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream = stream
        self.size = size

    def read(self, count: int) -> bytes:
        if count > MAX_OBJECT:
            raise ValueError("a large object")
        return self.stream.read(min(count, self.size))

    def readline(self) -> bytes:
        return self.stream.readline(min(MAX_OBJECT, self.size))
