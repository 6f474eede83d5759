"""Detect what a file is from its content: its first bytes, a pickle's operations, a zip's members.

Nothing is executed, and a file's name does not matter. ``kinds`` describes the kinds.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import lzma
import re
import shlex
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING

import msgspec

from converter import names
from converter.errors import CheckpointError, SourceError, StorageError
from converter.formats import pickle_contents
from converter.formats.kinds import DESCRIPTIONS, PACKED, UNPACK, UNPACK_OTHER, Kind
from converter.storage import disk

if TYPE_CHECKING:
    import os
    from pathlib import Path

NDARRAY_LIST_SIGNATURE = struct.pack("<Q", 0x112)
ZIP_SIGNATURE, GZIP_SIGNATURE, PICKLE_SIGNATURE = b"PK\x03\x04", b"\x1f\x8b", b"\x80"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LENGTH_BYTES = 8  # of the header length in a safetensors file; JSON follows
BEGIN_BYTES = LENGTH_BYTES + 1  # shown of an unknown file
GRAPH_SUFFIX = "-symbol.json"  # the end of the file name that MXNet gives a graph
PARAMS_SUFFIX = ".params"
FORKS = "__MACOSX/"  # folder of the resource forks that macOS adds to a zip
ARRAY, TORCH_PICKLE = ".npy", "data.pkl"  # ends of members that identify npz and .pth
MAX_JSON_BYTES = 1 << 22  # of a graph; the largest known has 0.7 MB
MAX_LISTED = 10  # members or files that a message lists
MAX_ENTRIES = 1000  # of a folder that are searched for other files
ENDINGS = r"\.(params|npz|mar|tar|zip|safetensors|pth)(\.gz|\.zip)?"  # of files that are read
EPOCH = r"-[0-9]{4,}\.params"  # the end of the file name that MXNet gives exported parameters
COMPRESSED = r"(\.gz|\.zip)?"  # after the name of a file that was compressed
# Exceptions of zipfile, tarfile and gzip if a file is damaged, encrypted or not an archive.
UNZIPPABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    struct.error,
)
# The kinds of binary files by their first bytes.
BINARY = (
    (re.compile(rb"\x93NUMPY[\1-\3]\0[^{]{2,4}\{[^}]*'descr': '\|O'"), Kind.npy_objects),
    (re.compile(rb"\x93NUMPY[\1-\3]\0"), Kind.npy),
    (re.compile(rb"\x89HDF\r\n\x1a\n"), Kind.hdf5),
    (re.compile(rb"DJL@\0\0\0"), Kind.djl),  # the version of the format follows
    (re.compile(rb".{4}TFL3", re.DOTALL), Kind.tflite),
    # The version of ONNX, then the producer's name or a graph that begins with a node.
    (re.compile(rb"\x08[\1-\x1f](\x12[\1-\x40][ -~]{2}|:[\x80-\xff]{0,4}[\0-\x7f]\n)"), Kind.onnx),
)
# The same for text, after white space and a byte order mark.
TEXT = (
    (re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(.*\n)*oid sha256:"), Kind.lfs_pointer),
    (re.compile(rb"(<\?xml[^>]*>\s*)?(<!--[^>]*-->\s*)?<(!doctype\s+)?html[\s>]", re.IGNORECASE), Kind.html),
    (re.compile(rb"(<\?xml[^>]*>\s*)?<Error>"), Kind.storage_error),
    (re.compile(rb"<\?xml\s"), Kind.xml),
    (re.compile(rb"[{\[]"), Kind.json),
)
# The part of a document that says what is wrong.
QUOTED = {
    Kind.html: re.compile(rb"<title>\s*([^<\n]+?)\s*</title>", re.IGNORECASE),
    Kind.storage_error: re.compile(rb"<Code>(\w+)</Code>"),
}


def kind(path: Path, name: str | None = None) -> Kind:
    """Return the kind of a file.

    Args:
        path: the file.
        name: its name in error messages, by default the path.

    Raises:
        CheckpointError: if it begins like two kinds.
        SourceError: if it is a zip of two kinds.
        StorageError: if it cannot be read; the message names files that may be meant instead.
    """
    require_file(path)
    with disk.reading(path):
        with path.open("rb") as stream:
            begin = stream.read(tarfile.BLOCKSIZE)
        zipped = functools.partial(_zip, name=name or str(path))
        steps = (_empty_or_list, zipped, _gzip_or_tar, _by_first_bytes, _safetensors_or_pickle)
        return next((found for step in steps if (found := step(path, begin))), Kind.unknown)


def require_file(path: Path) -> os.stat_result:
    """Return the status of a regular file.

    Raises:
        StorageError: if it is not one; the message names the files that may be meant instead.
    """
    try:
        return disk.require_regular(path)
    except StorageError as error:
        if disk.is_folder(path):
            lines = [f"{path}: a folder, not a file", *map(str, _entries(path, rf".*{ENDINGS}"))]
            step = f"gluon2torch inspect {shlex.quote(str(path))} lists what is in it"
        elif lines := [str(similar) for similar in similar_files(path)]:
            lines, step = [str(error), *lines], "pass one of these files"
        else:
            raise
        raise StorageError("\n  ".join([*names.shorten(lines, MAX_LISTED), step])) from error


def refusal(path: Path, found: Kind, name: str | None = None) -> str:
    """Return the message that refuses a file: what it is, and the next step.

    Args:
        path: the file.
        found: its kind.
        name: its name in the message, by default the path; that of the archive if it was unpacked.
    """
    name = name or str(path)
    description = DESCRIPTIONS[found]
    detail, step = _detail(path, found), description.step(name)
    if name not in {str(path), path.name} and step != description.next:  # no command reads it in the archive
        step = UNPACK if found in PACKED else UNPACK_OTHER
    elif found is Kind.graph and (params := parameters_of(path)):
        file = shlex.quote(str(params[0]))
        step = f"its parameters are in {params[0].name}: --params {file} --symbol {shlex.quote(name)}"
    return f"{name}: {description.what}{detail}\n  {step}"


def parameters_of(graph: Path) -> list[Path]:
    """Return the parameter files that MXNet's naming rule assigns to a graph, sorted by name."""
    prefix = re.escape(graph.name.removesuffix(GRAPH_SUFFIX).removesuffix(".json"))
    return _entries(graph.parent, rf"{prefix}({EPOCH}|\.params){COMPRESSED}")


def params_in(folder: Path) -> list[Path]:
    """Return the files in a folder that are named like parameters, sorted by name."""
    return _entries(folder, rf".*\.params{COMPRESSED}")


def graphs_in(folder: Path) -> list[Path]:
    """Return the graphs in a folder, sorted by name: those with MXNet's ending, else those by content."""
    if named := _entries(folder, rf".*{re.escape(GRAPH_SUFFIX)}"):
        return named
    return [path for path in _entries(folder, r".*\.json") if path.is_file() and kind(path) is Kind.graph]


def archives_in(folder: Path) -> list[Path]:
    """Return the files in a folder that are named like archives, sorted by name."""
    return _entries(folder, r".*\.(mar|zip|tar|tgz|tar\.gz)")


def similar_files(path: Path) -> list[Path]:
    """Return the files that a path without its ending, ``model`` for ``model-0000.params``, may mean."""
    return _entries(path.parent, rf"{re.escape(path.name)}({EPOCH}|{ENDINGS}|-symbol\.json)")


def _entries(folder: Path, pattern: str) -> list[Path]:
    """Return the entries of a folder whose whole names match, sorted by name."""
    expression = re.compile(pattern)
    try:
        entries = sorted(itertools.islice(folder.iterdir(), MAX_ENTRIES))
    except OSError:
        return []
    return [entry for entry in entries if expression.fullmatch(entry.name)]


def _empty_or_list(_: Path, begin: bytes) -> Kind | None:
    if not begin:
        return Kind.empty
    return Kind.ndarray_list if NDARRAY_LIST_SIGNATURE.startswith(begin[:LENGTH_BYTES]) else None


def _zip(path: Path, begin: bytes, name: str) -> Kind | None:
    if not begin.startswith(ZIP_SIGNATURE):
        return None
    if _is_safetensors(begin):  # the brace is at the place of a method that zip does not have
        raise CheckpointError(f"{name}: ambiguous: begins like a zip and like a safetensors file")
    try:
        members = zip_members(path)
    except UNZIPPABLE:
        return Kind.damaged_zip
    pickles = [member for member in members if member.lower().endswith(TORCH_PICKLE)]  # as torch does
    arrays = [member for member in members if member.endswith(ARRAY)]
    if any(map(is_params, members)):
        if others := arrays + pickles:
            raise SourceError(f"{name}: ambiguous zip: contains both a {PARAMS_SUFFIX} and {others[0]!r}")
        return Kind.zip
    if arrays:
        return Kind.npz
    return Kind.other_zip if members and not pickles else Kind.torch


def _gzip_or_tar(path: Path, begin: bytes) -> Kind | None:
    if begin.startswith(GZIP_SIGNATURE):
        return Kind.tar_gz if _is_tar(_unzipped_begin(path)) else Kind.gzip
    return Kind.tar if _is_tar(begin) else None


def _by_first_bytes(path: Path, begin: bytes) -> Kind | None:
    found = next((kind for expression, kind in BINARY if expression.match(begin)), None)
    if found is not None:
        return found
    if b"\0" in begin:  # a safetensors file may begin with a brace
        return None
    text = begin.removeprefix(BYTE_ORDER_MARK).lstrip()
    found = next((kind for expression, kind in TEXT if expression.match(text)), None)
    return _kind_of_json(path) if found is Kind.json else found


def _safetensors_or_pickle(path: Path, begin: bytes) -> Kind | None:
    if _is_safetensors(begin):  # before the pickle, because the length may begin with 0x80
        return Kind.safetensors
    if not begin.startswith(PICKLE_SIGNATURE):
        return None
    with path.open("rb") as stream:
        return pickle_contents.kind(stream, path.stat().st_size)


def _is_safetensors(begin: bytes) -> bool:
    return begin[LENGTH_BYTES:BEGIN_BYTES] == b"{"


def _kind_of_json(path: Path) -> Kind:
    if path.stat().st_size > MAX_JSON_BYTES:
        return Kind.unknown
    content = disk.read_small(path, MAX_JSON_BYTES).removeprefix(BYTE_ORDER_MARK)
    if is_graph(content):
        return Kind.graph
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Kind.unknown
    return Kind.json


def is_graph(content: bytes) -> bool:
    """Return whether a JSON document looks like a graph; a truncated one does, too."""
    return b'"nodes"' in content and b'"op"' in content


def zip_members(path: Path) -> list[str]:
    """Return the names of the members of a zip.

    Raises:
        UNZIPPABLE: if it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def is_params(member: str) -> bool:
    """Return whether a member of an archive is named like parameters."""
    return member.endswith(PARAMS_SUFFIX) and not member.startswith(FORKS)


def _is_tar(begin: bytes) -> bool:
    """Return whether the first bytes of a file are a tar header, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(begin, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _unzipped_begin(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read(tarfile.BLOCKSIZE)
    except UNZIPPABLE:  # reported when the file is unpacked
        return b""


def _detail(path: Path, found: Kind) -> str:
    """Return details of this file: zip members, page title or first bytes."""
    if found is Kind.other_zip:
        return "".join(f"\n  {line}" for line in names.shorten(zip_members(path), MAX_LISTED))
    with disk.reading(path), path.open("rb") as stream:
        begin = stream.read(tarfile.BLOCKSIZE)
    if found is Kind.unknown:
        return f": it begins with {begin[:BEGIN_BYTES]!r}"
    if found in QUOTED and (match := QUOTED[found].search(begin)):
        return f": {names.printable(match[1].decode(errors='replace'))}"
    return ""
