"""Tar archives with one ``.params``, as SageMaker packs models, and JSON files in archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
from symbols import changed, symbol
from test_archives import CONTENT, zipped

from converter.commands import conversion
from converter.errors import SourceError, SymbolError
from converter.formats import archives, detect
from converter.formats.kinds import PACKED
from converter.formats.params import write_params
from converter.networks.selection import ParamsSource
from converter.parity.options import ParityOptions
from converter.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.dtypes import Array
    from converter.networks.catalog import Model

    Pack = Callable[[bytes], bytes]

GRAPH = b'{"nodes": [], "heads": []}'
PARAMS = ("model-0000.params", CONTENT)
PACKERS: dict[str, Pack] = {"tar": lambda content: content, "tar.gz": gzip.compress}
MEGABYTE = 1 << 20


def tar_archive(*members: tuple[str | tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


VALID = {
    "plain": tar_archive(PARAMS),
    "in a folder": tar_archive(("./a/model-0000.params", CONTENT)),
    "GNU": tar_archive(("x" * 200 + ".params", CONTENT), form=tarfile.GNU_FORMAT),
    "PAX": tar_archive(("é" * 200 + ".params", CONTENT)),
    "USTAR": tar_archive(PARAMS, form=tarfile.USTAR_FORMAT),
    "among other members": tar_archive(("synset.txt", b"cat"), PARAMS, ("code/train.py", b"import mxnet")),
    "macOS": tar_archive(("._model-0000.params", b"fork"), PARAMS),
    "with a link to it": tar_archive(PARAMS, (link("last.params", "model-0000.params"), b"")),
    "with a hard link to it": tar_archive(
        PARAMS, (link("last.params", "model-0000.params", tarfile.LNKTYPE), b"")
    ),
    "outside": tar_archive(("../../model-0000.params", CONTENT)),
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("content", VALID.values(), ids=VALID)
def test_params_in_a_tar_are_unpacked(content: bytes, kind: str, packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(PACKERS[kind](content))
    unpacked = tmp_path / "unpacked.params"
    assert detect.kind(packed) == kind
    result = archives.unpack(packed, unpacked, silent)
    assert result.sha1 == hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    assert unpacked.read_bytes() == CONTENT
    assert {path.name for path in tmp_path.rglob("*")} == {packed.name, unpacked.name}


def test_pre_posix_tar_is_recognised_by_its_checksum(packed: Path) -> None:
    header = bytearray(tar_archive(PARAMS, form=tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)  # without the ustar magic
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    packed.write_bytes(header)
    assert detect.kind(packed) == "tar"
    header[0] ^= 1
    packed.write_bytes(header)
    assert detect.kind(packed) not in PACKED


def test_json_files_in_archives_are_kept(packed: Path, tmp_path: Path) -> None:
    members = [
        ("a-symbol.json", GRAPH),
        PARAMS,
        ("MAR-INF/MANIFEST.json", b' \n{"model": {}}'),
        ("list.json", b"[1]"),
        ("notes.txt", b"{no JSON, but as good as"),
        ("empty.json", b""),
        ("large.json", b"{" + b" " * archives.MAX_DOCUMENT_BYTES),
    ]
    expected = {
        "a-symbol.json": GRAPH,
        "MAR-INF/MANIFEST.json": b' \n{"model": {}}',
        "notes.txt": members[4][1],
    }
    for content in (tar_archive(*members), gzip.compress(tar_archive(*members)), zipped(*members)):
        packed.write_bytes(content)
        assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == expected
    packed.write_bytes(gzip.compress(CONTENT))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == {}


LARGE = {"too large": b"{" + b" " * archives.MAX_DOCUMENT_BYTES}
DAMAGED_GRAPHS = {"empty": b"", "blanks": b" " * 600 + GRAPH, "a list": b"[]"}


@pytest.mark.parametrize("pack", [tar_archive, zipped])
def test_symbol_json_is_kept_regardless_of_its_content(
    pack: Callable[..., bytes], packed: Path, tmp_path: Path
) -> None:
    for content in DAMAGED_GRAPHS.values():
        packed.write_bytes(pack(("net-symbol.json", content), PARAMS))
        assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == {
            "net-symbol.json": content
        }
    packed.write_bytes(pack(("net-symbol.json", LARGE["too large"]), PARAMS))
    with pytest.raises(SourceError, match=r"'net-symbol\.json' has 4194305 bytes; the limit is 4194304$"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


@pytest.mark.parametrize("pack", [tar_archive, zipped])
def test_duplicate_json_names_are_refused(pack: Callable[..., bytes], packed: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # from zipfile, about the duplicate name
        packed.write_bytes(pack(("net.json", GRAPH), PARAMS, ("net.json", GRAPH)))
    with pytest.raises(SourceError, match=r"contains 'net\.json' twice"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_graph_with_a_utf8_name_in_a_zip_is_kept(packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(zipped(("é-symbol.json", GRAPH), PARAMS))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == {"é-symbol.json": GRAPH}


def test_encrypted_graph_in_a_zip_is_refused(packed: Path, tmp_path: Path) -> None:
    content = bytearray(zipped(("net-symbol.json", GRAPH), PARAMS))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    packed.write_bytes(content)
    with pytest.raises(
        SourceError, match=r"'net-symbol\.json' is encrypted or has an unsupported compression"
    ):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_graph_with_unsupported_compression_is_refused(packed: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(*PARAMS)
        archive.writestr("net-symbol.json", GRAPH, zipfile.ZIP_BZIP2)
        archive.writestr("notes.json", GRAPH, zipfile.ZIP_BZIP2)
    packed.write_bytes(stream.getvalue())
    with pytest.raises(
        SourceError, match=r"'net-symbol\.json' is encrypted or has an unsupported compression"
    ):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_undecodable_member_name_is_replaced(packed: Path, tmp_path: Path) -> None:
    name = b"n\xffet-symbol.json".decode(errors="surrogateescape")
    packed.write_bytes(tar_archive((name, GRAPH), PARAMS, form=tarfile.GNU_FORMAT))
    documents = archives.unpack(packed, tmp_path / "unpacked", silent).documents
    assert documents == {"n\N{REPLACEMENT CHARACTER}et-symbol.json": GRAPH}


MANY = [(f"{number}.json", b"{" + b" " * (archives.MAX_DOCUMENT_BYTES - 1)) for number in range(5)]


@pytest.mark.parametrize("pack", [tar_archive, zipped])
def test_too_much_json_is_refused(pack: Callable[..., bytes], packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(pack(*MANY, PARAMS))
    with pytest.raises(SourceError, match=f"contains more than {archives.MAX_DOCUMENTS_BYTES} bytes of JSON"):
        archives.unpack(packed, tmp_path / "unpacked", silent)
    packed.write_bytes(pack(*MANY[:3], PARAMS))
    assert len(archives.unpack(packed, tmp_path / "unpacked", silent).documents) == 3


def tar_with_header(size: int) -> bytes:
    """Return a tar that begins with an extended header of the given size in bytes."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf() + bytes(size) + tar_archive(PARAMS)


WITHOUT_END = tar_archive(PARAMS)[: 512 + -(-len(CONTENT) // 512) * 512]
INVALID = {
    "none": (tar_archive(("readme", b"x")), r"expected a tar with exactly one \.params, found 0"),
    "two": (
        tar_archive(PARAMS, ("b.params", CONTENT)),
        r"expected a tar with exactly one \.params, found 2\n  model-0000\.params\n  b\.params\n  unpack",
    ),
    "only a link": (
        tar_archive((link("a.params", "/etc/passwd"), b"")),
        r"expected a tar with exactly one \.params, found 0",
    ),
    "truncated in the file": (tar_archive(PARAMS)[:1000], "cannot be unpacked: "),
    "truncated in a header": (
        tar_archive(("readme", b"x"), PARAMS)[:1100],
        "cannot be unpacked: damaged header",
    ),
    "damaged header": (WITHOUT_END + b"\1" * 512 + bytes(1024), "cannot be unpacked: damaged header"),
    "trailing tar": (
        tar_archive(PARAMS) + tar_archive(("net.json", GRAPH)),
        ".*data after the end of the tar",
    ),
    "a header of two megabytes": (tar_with_header(2 * MEGABYTE), r"declares a header of \d+ bytes"),
    "many members": (
        b"".join(tarfile.TarInfo(f"{number}").tobuf() for number in range(archives.MAX_MEMBERS))
        + tar_archive(PARAMS),
        f"contains more than {archives.MAX_MEMBERS} members",
    ),
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize(("content", "message"), INVALID.values(), ids=INVALID)
def test_damaged_or_oversized_tar_is_refused(
    content: bytes, message: str, kind: str, packed: Path, tmp_path: Path
) -> None:
    packed.write_bytes(PACKERS[kind](content))
    with pytest.raises(SourceError, match=f"model.bin: ({message})"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_tar_at_the_limits_is_read(packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(tar_with_header(MEGABYTE))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).sha1
    members = (tarfile.TarInfo(f"{number}").tobuf() for number in range(archives.MAX_MEMBERS - 1))
    packed.write_bytes(b"".join(members) + tar_archive(PARAMS))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).sha1


def test_compressed_tar_beyond_the_unpacking_limit_is_refused(packed: Path, tmp_path: Path) -> None:
    limit = archives.SMALL
    packed.write_bytes(gzip.compress(tar_archive(("zeros", bytes(limit)), PARAMS), 1))
    with pytest.raises(SourceError, match=f"unpacks to more than {limit} bytes"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_checksum_of_a_compressed_tar_is_verified(packed: Path, tmp_path: Path) -> None:
    content = bytearray(gzip.compress(tar_archive(PARAMS)))
    content[-8] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be unpacked: CRC check failed"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def mar_archive(params: bytes, graph: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net-0000.params", params)
        archive.writestr("net-symbol.json", graph)
        archive.writestr("synset.txt", "cat\n")
        archive.writestr("MAR-INF/MANIFEST.json", "{}")
    return stream.getvalue()


WITH_GRAPH: dict[str, Callable[[bytes, bytes], bytes]] = {
    "net.mar": mar_archive,
    "net.zip": mar_archive,
    "model.tar": lambda params, graph: tar_archive(
        ("./net-0000.params", params), ("./net-symbol.json", graph)
    ),
    "model.tar.gz": lambda params, graph: gzip.compress(
        tar_archive(("net-symbol.json", graph), ("net-0000.params", params)), 1
    ),
}


@pytest.mark.parametrize("name", WITH_GRAPH)
def test_graph_in_an_archive_is_matched_with_the_model(
    name: str, tiny: Model, tiny_params: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converter.networks.catalog.models", lambda: {"tiny": tiny})
    stream = io.BytesIO()
    write_params(stream, tiny_params)
    request = conversion.ConversionRequest(
        source=ParamsSource(None, tmp_path / name), out=tmp_path / "out", options=ParityOptions("none")
    )
    content = symbol(tiny)
    (tmp_path / name).write_bytes(WITH_GRAPH[name](stream.getvalue(), json.dumps(content).encode()))
    source = conversion.run(request).manifest.source
    assert source.symbol == "net-symbol.json"
    assert source.symbol_sha256 == hashlib.sha256(json.dumps(content).encode()).hexdigest()
    changed(content, "features.1", eps="0.001")
    (tmp_path / name).write_bytes(WITH_GRAPH[name](stream.getvalue(), json.dumps(content).encode()))
    with pytest.raises(SymbolError, match=rf"{name}: .*net-symbol\.json: the graph does not match tiny"):
        conversion.run(request)
