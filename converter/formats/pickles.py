"""Refuse a ``.pth`` that would cost torch much more memory or time than its size suggests.

torch's restricted unpickler calls no unknown functions, but it unpacks compressed members, calls
functions that allocate gigabytes from a few bytes, and hashes and prints the objects of a pickle. Tuples
that contain the next tuple twice, a hundred levels deep, have a few hundred bytes and 2^100 members. The
checked bytes must be those that torch reads: a zip that readers could interpret differently is refused.

Sources: torch/_weights_only_unpickler.py, torch/serialization.py, PyTorch 2.13;
pickletools.py, Python 3.11.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE = b"PK\x03\x04"
PICKLE = "data.pkl"
LEGACY_PICKLES = 5  # magic number, version, machine, state dict, order of the storages
MAX_DEPTH = 100  # of nested objects; a training checkpoint has ten levels
MAX_GROWTH = 100  # objects per operation; a tensor with two names has about forty
MAX_OPERATIONS = 2_000_000  # a tensor has about forty
# Records at the end of a zip, which locate all others (APPNOTE 4.3.14 to 16). The last two are of zip64.
END, LOCATOR, LARGE_END = (struct.Struct(form) for form in ("<4s4H2LH", "<4sLQL", "<4sQ2H2L4Q"))
END_SIGNATURE, LOCATOR_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
# The functions that checkpoints need. torch would call others too, which create other objects.
STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
DTYPE = re.compile(r"torch (bool|u?int\d+|b?float\d\w*|complex\d+)", re.ASCII)
CALLED = {
    *("collections OrderedDict", "__builtin__ set", "_codecs encode", "torch Size", "torch device"),
    *(f"torch {kind}Storage" for kind in STORAGES),
    *("torch.storage UntypedStorage", "torch.nn.parameter Parameter"),
    *(f"torch._utils _rebuild_{what}" for what in ("tensor", "tensor_v2", "tensor_v3", "parameter")),
    "torch._utils _rebuild_parameter_with_state",
    "argparse Namespace",  # the options of a training program
    # Sparse tensors, and tensors without values: the checkpoint reader refuses them by name.
    *("torch._utils _rebuild_sparse_tensor", "torch.serialization _get_layout"),
    "torch._utils _rebuild_meta_tensor_no_storage",
}
# The operations that torch supports, by the number of objects they pop: AFTER_MARK is all after a mark.
AFTER_MARK = -1
MAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": AFTER_MARK, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
CHANGES = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "APPENDS": AFTER_MARK, "SETITEMS": AFTER_MARK}
TAKES = MAKES | CHANGES
NEW = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
PUTS, GETS = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
LEAVES = {
    *("GLOBAL", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINSTRING", "EMPTY_TUPLE"),
}
KNOWN = {"PROTO", "MARK", "STOP", *TAKES, *NEW, *PUTS, *GETS, *LEAVES}


@dataclass(slots=True)
class _Extent:
    """The extent of one object in a pickle.

    Attributes:
        size: the number of objects in it, each counted as often as it occurs.
        depth: the levels of nesting.
        is_shared: whether the pickle refers to it again.
    """

    size: int = 1
    depth: int = 1
    is_shared: bool = False

    def add(self, members: Sequence[_Extent]) -> None:
        """Add the extents of members."""
        self.size += sum(member.size for member in members)
        self.depth = max([self.depth, *(member.depth + 1 for member in members)])


LEAF = _Extent()  # of every object without members


def require_harmless(stream: BinaryIO) -> None:
    """Check that the members and pickles of a ``.pth`` do not expand to much more than its size.

    Operations that torch does not support pass, because torch refuses them.

    Raises:
        ValueError: if they do, with the reason; also if the file is ambiguous or calls other functions.
        LookupError: if a pickle refers to an object that does not exist.
        zipfile.BadZipFile: if the zip is damaged.
    """
    if stream.read(len(SIGNATURE)) == SIGNATURE:
        size = stream.seek(0, io.SEEK_END)
        with zipfile.ZipFile(stream) as archive:
            _require_stored(archive.infolist(), size)
            _require_unambiguous(stream, size, archive)
            for name in archive.namelist():
                if name.lower().endswith(PICKLE):  # torch ignores the case
                    _require_bounded(io.BytesIO(archive.read(name)))
    else:
        stream.seek(0)
        for _ in range(LEGACY_PICKLES):
            if not _require_bounded(stream):
                break
    stream.seek(0)


def _require_stored(members: list[zipfile.ZipInfo], size: int) -> None:
    if packed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
        raise ValueError(f"{packed[0]!a} is compressed; torch.save never compresses")
    if sum(member.file_size for member in members) > size:
        raise ValueError(f"its members declare more than the {size} bytes of the file")


def _require_unambiguous(stream: BinaryIO, size: int, archive: zipfile.ZipFile) -> None:
    """Refuse a zip with different positions of the directory by its offset and by its size."""
    place = size - END.size
    signature, *_, offset, comment = _read_struct(END, stream, place)
    if signature != END_SIGNATURE or comment:
        raise ValueError("it does not end with the record that torch.save writes last")
    locator, _, zip64_end, _ = _read_struct(LOCATOR, stream, place - LOCATOR.size)
    if locator == LOCATOR_SIGNATURE:
        if zip64_end != place - LOCATOR.size - LARGE_END.size:
            raise ValueError("the end of its directory is not at the declared offset")
        offset = _read_struct(LARGE_END, stream, zip64_end)[-1]
    if offset != archive.start_dir:
        raise ValueError(f"its directory is declared at byte {offset}, but is at {archive.start_dir}")
    names = [name.lower() for name in archive.namelist()]
    if len(set(names)) < len(names):
        raise ValueError("two of its members have the same name")


def _read_struct(form: struct.Struct, stream: BinaryIO, place: int) -> tuple[Any, ...]:
    stream.seek(max(place, 0))
    return form.unpack(stream.read(form.size))


def _require_bounded(stream: BinaryIO) -> bool:
    """Simulate a pickle with extents for objects; return whether torch supports its operations."""
    machine = _Machine()
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if operation.name not in KNOWN:
            return False
        if count > MAX_OPERATIONS:
            raise ValueError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
        if operation.name == "GLOBAL":
            _require_allowed(str(argument))
        top = machine.step(operation.name, argument)
        if top and (top.depth > MAX_DEPTH or top.size > MAX_GROWTH * (count + MAX_GROWTH)):
            raise ValueError("its pickle expands to too many or too deeply nested objects")
    return True


def _require_allowed(function: str) -> None:
    if function not in CALLED and not DTYPE.fullmatch(function):
        raise ValueError(f"GLOBAL {function.replace(' ', '.')} is not allowed in a checkpoint")


class _Machine:
    """A simulated unpickler: the stack of objects, the marks in it, and the memo of shared objects."""

    def __init__(self) -> None:
        self.stack: list[_Extent] = []
        self.marks: list[int] = []
        self.memo: dict[int, _Extent] = {}

    def step(self, name: str, argument: Any) -> _Extent | None:  # noqa: ANN401 - varies by operation
        """Execute one operation, and return the top of the stack."""
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
            self.stack[-1].is_shared = True
        elif name in TAKES:
            self._combine(name)
        elif name in NEW:
            self.stack.append(_Extent())
        elif name in LEAVES:
            self.stack.append(LEAF)
        return self.stack[-1] if self.stack else None

    def _combine(self, name: str) -> None:
        count = TAKES[name]
        place = self.marks.pop() if count == AFTER_MARK else len(self.stack) - count
        members = self.stack[place:]
        del self.stack[place:]
        if name in MAKES:
            self.stack.append(_Extent())
        elif self.stack[-1].is_shared:
            raise ValueError("its pickle changes an object that it has already used")
        self.stack[-1].add(members)
