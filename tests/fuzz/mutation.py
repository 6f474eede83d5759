"""Mutations of files that keep checksums and syntax valid.

Each takes the content and a seeded random generator, and returns the mutated content.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from hostile_texts import NAMES, VALUES

from converter.graphs import operators

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Mutate = Callable[[bytes, Random], bytes]

MAX_BYTES = 1 << 14  # of a mutated file; larger files are slow and reveal little more
OPERATORS = sorted(operators.schemas())
ATTRIBUTES = ("axis", "kernel", "pad", "stride", "num_group", "scalar", "shape", "mode")
NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
TOKENS = re.compile(rb"\w+|\s+|.", re.DOTALL)
WORDS = [
    *(b"0", b"-1", b"1e999", b"NaN", b"9" * 5000, b"0x" + b"f" * 4000, b"18446744073709551616", b"1.5"),
    *(
        b"null",
        b"true",
        b"{}",
        b"[]",
        b'""',
        b"[[",
        b"]]",
        b'"\\ud800"',
        b'"\\u0000"',
        b"\xff",
        b"\xf0\x9f\x94\xa5",
    ),
    *(b"[" * 2000, b'{"a":' * 500, b"(" * 500, b"a." * 500 + b"a", b"\n", b"'", b'"', b"=", b"#"),
]


def flip(content: bytes, random: Random) -> bytes:
    """Change, delete, repeat or insert bytes, or a number at the limit of its width."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        place, length = random.randint(0, len(changed)), random.choice((1, 1, 2, 4, 8, 32))
        width = random.choice("BHIQ")
        number = random.choice(NUMBERS) % (1 << 8 * struct.calcsize(width))
        piece = random.choice(
            (
                random.randbytes(length),
                b"",
                bytes(changed[place : place + length]) * 2,
                struct.pack(f"<{width}", number),
                struct.pack(f"<{width}", random.randint(0, 64)),
            )
        )
        changed[place : place + random.choice((0, length, len(piece)))] = piece
    return bytes(changed[: random.randint(0, len(changed))] if random.random() < 0.05 else changed)


def words(content: bytes, random: Random) -> bytes:
    """Swap, repeat or delete tokens of a text, or insert tokens that are hard to parse."""
    tokens = TOKENS.findall(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randint(0, len(tokens))
        other = random.choice(tokens) if tokens and random.random() < 0.5 else random.choice(WORDS)
        length = random.choice((0, 1, 1, 2, 8))
        kept = tokens[place : place + length]
        tokens[place : place + length] = random.choice(([other], [], [*kept, *kept], [other, *kept]))
    return b"".join(tokens)


def graph(content: bytes, random: Random) -> bytes:
    """Change names, operators, attributes and inputs of a graph, or the tokens of its text."""
    if random.random() < 0.3:
        return words(content, random)
    try:
        document = json.loads(content)
        for _ in range(random.choice((1, 2, 4))):
            _change_node(random.choice(document["nodes"]), random)
        return json.dumps(document).encode()
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return words(content, random)


def _change_node(node: dict[str, Any], random: Random) -> None:
    match random.randrange(5):
        case 0:
            node["name"] = random.choice(NAMES)
        case 1:
            node["op"] = random.choice(OPERATORS)
        case 2:
            node["inputs"] = [[random.randint(0, 9), random.choice((0, 0, 1)), 0] for _ in node["inputs"]]
        case _:
            attributes = node.setdefault("attrs", {})
            attributes[random.choice([*attributes, *ATTRIBUTES])] = random.choice(VALUES)


def zipped(inner: Mutate) -> Mutate:
    """Return a mutation of a zip's members or their packing that keeps checksums and directory valid."""

    def mutate(content: bytes, random: Random) -> bytes:
        members = _members(content)
        if not members:
            return flip(content, random)
        place = random.randrange(len(members))
        name, packed, method = members[place]
        kind = random.randrange(8)
        if kind == 0:
            method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
        elif kind == 1:
            name = random.choice(
                (f"../{name}", f"/{name}", "w.params", "w.npy", "a/data.pkl", name[1:], name * 2)
            )
        elif kind == 2:
            members.append(members[random.randrange(len(members))])
        elif kind == 3:
            packed += bytes(random.choice((1, 100, 100_000)))
        else:
            packed = inner(packed, random)
        members[place] = (name, packed, method)
        return flip(_zip(members), random) if random.random() < 0.1 else _zip(members)

    return mutate


def gzipped(inner: Mutate) -> Mutate:
    """Return a mutation of a gzip's content or, sometimes, of the gzip itself."""

    def mutate(content: bytes, random: Random) -> bytes:
        try:
            unpacked = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return flip(content, random)
        packed = gzip.compress(inner(unpacked, random), random.randint(0, 1), mtime=0)
        return flip(packed, random) if random.random() < 0.2 else packed

    return mutate


def safetensors_header(inner: Mutate) -> Mutate:
    """Return a mutation of a safetensors' JSON header that keeps the declared length valid."""

    def mutate(content: bytes, random: Random) -> bytes:
        length = int.from_bytes(content[:8], "little")
        if length > len(content) - 8 or random.random() < 0.2:
            return flip(content, random)
        header = content[8 : 8 + length]
        header = _reshaped(header, random) if random.random() < 0.3 else inner(header, random)
        return struct.pack("<Q", len(header)) + header + content[8 + length :]

    return mutate


def _reshaped(header: bytes, random: Random) -> bytes:
    """Return a header in which one array has another shape with as many elements."""
    with contextlib.suppress(ValueError, AttributeError, TypeError, LookupError, RecursionError):
        document = json.loads(header)
        entry = document[random.choice([name for name in document if name != "__metadata__"])]
        entry["shape"] = random.choice(
            ([1] * 70 + entry["shape"], [0, 2**60], [0, 2**63], [], entry["shape"][::-1])
        )
        if 0 in entry["shape"]:
            entry["data_offsets"] = [entry["data_offsets"][0]] * 2
        return json.dumps(document).encode()
    return words(header, random)


def _members(content: bytes) -> list[tuple[str, bytes, int]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [
                (member.filename, archive.read(member), member.compress_type)
                for member in archive.infolist()
                if member.file_size <= MAX_BYTES
            ]
    except (
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,
        OverflowError,
        OSError,
        ValueError,
        LookupError,
        EOFError,
        struct.error,
    ):
        return []  # an invalid zip, made by flip


def _zip(members: list[tuple[str, bytes, int]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content, method in members:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            if entry.filename in archive.NameToInfo:  # avoids the warning about duplicate names
                del archive.NameToInfo[entry.filename]
            archive.writestr(entry, content)
    return stream.getvalue()
