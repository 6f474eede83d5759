"""What a ``.pth`` would make torch do, found out before torch does it: nothing that costs more than the file.

torch's restricted reader calls no strangers, but it unpacks what is compressed, calls what makes a gigabyte
of nothing, and hashes and prints what the pickle builds. A tuple of twice a tuple of twice a tuple has, so
continued, a few hundred bytes and 2^100 members. What is looked at must be what torch will read: a zip that
two readers could take for two is refused.
Sources: torch/_weights_only_unpickler.py, torch/serialization.py, PyTorch 2.13; pickletools.py, Python 3.11.
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
MAX_DEPTH = 100  # of what stands in each other; a training script's checkpoint has ten
MAX_GROWTH = 100  # times the operations; a tensor that two names share has some forty
MAX_OPERATIONS = 2_000_000  # a tensor has some forty
# The end of a zip, of which all else is found (APPNOTE 4.3.14 to 16); large ones have two records before it.
END, LOCATOR, LARGE_END = (struct.Struct(form) for form in ("<4s4H2LH", "<4sLQL", "<4sQ2H2L4Q"))
END_SIGNATURE, LOCATOR_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
# What checkpoints are made of. All else that torch would call makes something that no file needs.
STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
DTYPE = re.compile(r"torch (bool|u?int\d+|b?float\d\w*|complex\d+)", re.ASCII)
CALLED = {
    *("collections OrderedDict", "__builtin__ set", "_codecs encode", "torch Size", "torch device"),
    *(f"torch {kind}Storage" for kind in STORAGES),
    *("torch.storage UntypedStorage", "torch.nn.parameter Parameter"),
    *(f"torch._utils _rebuild_{what}" for what in ("tensor", "tensor_v2", "tensor_v3", "parameter")),
    "torch._utils _rebuild_parameter_with_state",
    # Sparse tensors, and those without numbers: refused by name when they are read.
    *("torch._utils _rebuild_sparse_tensor", "torch.serialization _get_layout"),
    "torch._utils _rebuild_meta_tensor_no_storage",
}
# The operations that torch knows, by how many objects they take from the stack, or all after a mark.
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
class _Constructed:
    """One object of a pickle: how many are in it, each counted as often as it is there, and how deep."""

    size: int = 1
    depth: int = 1
    is_shared: bool = False

    def take(self, members: Sequence[_Constructed]) -> None:
        """Put others into it."""
        self.size += sum(member.size for member in members)
        self.depth = max([self.depth, *(member.depth + 1 for member in members)])


LEAF = _Constructed()  # for all that nothing is put into


def require_harmless(stream: BinaryIO) -> None:
    """Refuse a ``.pth`` that would unpack to more than it is, or whose pickles stand for much more.

    Operations that torch does not know pass, for it will refuse them.
    Errors: ``ValueError`` with the reason, ``LookupError``, and those of ``zipfile`` at damaged files.
    """
    if stream.read(len(SIGNATURE)) == SIGNATURE:
        size = stream.seek(0, io.SEEK_END)
        with zipfile.ZipFile(stream) as archive:
            _require_stored(archive.infolist(), size)
            _require_one_reading(stream, size, archive)
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


def _require_one_reading(stream: BinaryIO, size: int, archive: zipfile.ZipFile) -> None:
    """Refuse a zip whose directory lies elsewhere by its offset than by its size."""
    place = size - END.size
    signature, *_, offset, comment = _unpacked(END, stream, place)
    if signature != END_SIGNATURE or comment:
        raise ValueError("it does not end as torch.save ends a file")
    locator, _, large, _ = _unpacked(LOCATOR, stream, place - LOCATOR.size)
    if locator == LOCATOR_SIGNATURE:
        if large != place - LOCATOR.size - LARGE_END.size:
            raise ValueError("the end of its directory is not where it is said to be")
        offset = _unpacked(LARGE_END, stream, large)[-1]
    if offset != archive.start_dir:
        raise ValueError(f"its directory is said to be at byte {offset}, and is at {archive.start_dir}")
    names = [name.lower() for name in archive.namelist()]
    if len(set(names)) < len(names):
        raise ValueError("two of its members have one name")


def _unpacked(form: struct.Struct, stream: BinaryIO, place: int) -> tuple[Any, ...]:
    stream.seek(max(place, 0))
    return form.unpack(stream.read(form.size))


def _require_flat(stream: BinaryIO) -> bool:
    """Follow a pickle's operations with sizes in place of objects; return whether torch knows all of them."""
    machine = _Machine()
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if operation.name not in KNOWN:
            return False
        if count > MAX_OPERATIONS:
            raise ValueError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
        if operation.name == "GLOBAL":
            _require_known(str(argument))
        made = machine.step(operation.name, argument)
        if made and (made.depth > MAX_DEPTH or made.size > MAX_GROWTH * (count + MAX_GROWTH)):
            raise ValueError("its pickle stands for much more than it is")
    return True


def _require_known(called: str) -> None:
    if called not in CALLED and not DTYPE.fullmatch(called):
        raise ValueError(f"GLOBAL {called.replace(' ', '.')} is nothing that a checkpoint needs")


class _Machine:
    """What unpickles: a stack of what was made, the marks in it, and what is kept to be used again."""

    def __init__(self) -> None:
        self.stack: list[_Constructed] = []
        self.marks: list[int] = []
        self.memo: dict[int, _Constructed] = {}

    def step(self, name: str, argument: Any) -> _Constructed | None:  # noqa: ANN401 - what the operation has
        """Do one operation, and return what lies on top of the stack then."""
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
            self.stack[-1].is_shared = True
        elif name in TAKES:
            self._put_together(name)
        elif name in NEW:
            self.stack.append(_Constructed())
        elif name in LEAVES:
            self.stack.append(LEAF)
        return self.stack[-1] if self.stack else None

    def _put_together(self, name: str) -> None:
        count = TAKES[name]
        place = self.marks.pop() if count == AFTER_MARK else len(self.stack) - count
        members = self.stack[place:]
        del self.stack[place:]
        if name in MAKES:
            self.stack.append(_Constructed())
        elif self.stack[-1].is_shared:
            raise ValueError("its pickle changes what it has used already")
        self.stack[-1].take(members)
