"""What a ``.pth`` would make torch do, found out before torch reads it: nothing that costs more than the file.

torch's restricted reader calls no strangers, but it unpacks what is compressed, and it hashes and prints what
the pickle builds. A tuple of twice a tuple of twice a tuple, and so on, has a few hundred bytes and 2^100 members.
Sources: torch/_weights_only_unpickler.py, torch/serialization.py, PyTorch 2.13; pickletools.py, Python 3.11.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE = b"PK\x03\x04"
PICKLE = "data.pkl"
LEGACY_PICKLES = 5  # magic number, version, machine, state dict, order of the storages
MAX_DEPTH = 100  # of what stands in each other; a training script's checkpoint has ten
MAX_GROWTH = 100  # times the operations; a tensor that two names share has some forty
# The operations that torch knows, by what they take from the stack; the rest of them take nothing.
MAKERS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
CHANGERS = {"APPEND": 2, "SETITEM": 3, "BUILD": 2}
CHANGERS_TO_MARK = {"APPENDS", "SETITEMS"}
LEAVES = {
    *("GLOBAL", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("SHORT_BINSTRING", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"),
}


@dataclass(slots=True)
class _Made:
    """One object of a pickle: how many there are in it, each counted as often as it is there, and how deep."""

    size: int = 1
    depth: int = 1
    is_shared: bool = False

    def take(self, members: Sequence[_Made]) -> None:
        """Put others into it."""
        self.size += sum(member.size for member in members)
        self.depth = max([self.depth, *(member.depth + 1 for member in members)])


def require_harmless(stream: BinaryIO) -> None:
    """Refuse a ``.pth`` that would unpack to more than it is, or whose pickles stand for much more.

    What torch itself will refuse passes.
    Errors: ``ValueError`` with the reason, ``LookupError``, and those of ``zipfile`` at damaged files.
    """
    if stream.read(len(SIGNATURE)) == SIGNATURE:
        size = stream.seek(0, io.SEEK_END)
        with zipfile.ZipFile(stream) as archive:
            _require_stored(archive.infolist(), size)
            for name in archive.namelist():
                if name.lower().endswith(PICKLE):  # torch looks for it in either case
                    _require_flat(io.BytesIO(archive.read(name)))
    else:
        stream.seek(0)
        for _ in range(LEGACY_PICKLES):
            if not _require_flat(stream):
                break
    stream.seek(0)


def _require_stored(members: list[zipfile.ZipInfo], size: int) -> None:
    if packed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
        raise ValueError(f"{packed[0]!a} is compressed, and torch.save stores")
    if sum(member.file_size for member in members) > size:
        raise ValueError(f"its members are said to have more than its {size} bytes")


def _require_flat(stream: BinaryIO) -> bool:
    """Follow a pickle's operations with sizes in place of objects; return whether torch knows all of them."""
    stack: list[_Made] = []
    marks: list[int] = []
    memo: dict[int, _Made] = {}
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        name = operation.name
        if name == "MARK":
            marks.append(len(stack))
        elif name in {"BINPUT", "LONG_BINPUT"}:
            memo[int(argument)] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(memo[int(argument)])
            stack[-1].is_shared = True
        elif name in CHANGERS or name in CHANGERS_TO_MARK:
            members = _popped(stack, CHANGERS[name] - 1 if name in CHANGERS else len(stack) - marks.pop())
            if stack[-1].is_shared:
                raise ValueError("its pickle changes what it has used already")
            stack[-1].take(members)
        elif name in MAKERS or name == "TUPLE":
            members = _popped(stack, MAKERS[name] if name in MAKERS else len(stack) - marks.pop())
            stack.append(_Made())
            stack[-1].take(members)
        elif name in LEAVES:
            stack.append(_Made())
        elif name not in {"PROTO", "STOP"}:
            return False
        if stack and (stack[-1].depth > MAX_DEPTH or stack[-1].size > MAX_GROWTH * (count + MAX_GROWTH)):
            raise ValueError("its pickle stands for much more than it is")
    return True


def _popped(stack: list[_Made], count: int) -> list[_Made]:
    """Take the last ``count`` objects from the stack."""
    if count > len(stack):
        raise IndexError("its pickle takes what it has not made")
    place = len(stack) - count
    members = stack[place:]
    del stack[place:]
    return members
