"""Tars of one ``.params``, as SageMaker packs models, and the JSON files in archives."""

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
from converter.formats import archives
from converter.formats.params import write_params
from converter.networks.loading import ParamsSource
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


def tarred(*members: tuple[str | tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
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


FORMS = {
    "plain": tarred(PARAMS),
    "in a folder": tarred(("./a/model-0000.params", CONTENT)),
    "GNU": tarred(("x" * 200 + ".params", CONTENT), form=tarfile.GNU_FORMAT),
    "PAX": tarred(("é" * 200 + ".params", CONTENT)),
    "USTAR": tarred(PARAMS, form=tarfile.USTAR_FORMAT),
    "among others": tarred(("synset.txt", b"cat"), PARAMS, ("code/train.py", b"import mxnet")),
    "macOS": tarred(("._model-0000.params", b"fork"), PARAMS),
    "with a link to it": tarred(PARAMS, (link("last.params", "model-0000.params"), b"")),
    "with a hard link to it": tarred(
        PARAMS, (link("last.params", "model-0000.params", tarfile.LNKTYPE), b"")
    ),
    "outside": tarred(("../../model-0000.params", CONTENT)),
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_the_params_of_a_tar_are_unpacked(content: bytes, kind: str, packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(PACKERS[kind](content))
    unpacked = tmp_path / "unpacked.params"
    assert archives.kind(packed) == kind
    found = archives.unpack(packed, unpacked, silent)
    assert found.sha1 == hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    assert unpacked.read_bytes() == CONTENT
    assert {path.name for path in tmp_path.rglob("*")} == {packed.name, unpacked.name}


def test_a_tar_of_before_posix_is_known_by_its_checksum(packed: Path) -> None:
    header = bytearray(tarred(PARAMS, form=tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)  # no magic
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    packed.write_bytes(header)
    assert archives.kind(packed) == "tar"
    header[0] ^= 1
    packed.write_bytes(header)
    assert archives.kind(packed) is None


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
    for content in (tarred(*members), gzip.compress(tarred(*members)), zipped(*members)):
        packed.write_bytes(content)
        assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == expected
    packed.write_bytes(gzip.compress(CONTENT))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == {}


LARGE = {"too large": b"{" + b" " * archives.MAX_DOCUMENT_BYTES}
DAMAGED_GRAPHS = {"empty": b"", "blanks": b" " * 600 + GRAPH, "a list": b"[]"}


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_graph_by_its_name_is_kept_whatever_it_holds(
    pack: Callable[..., bytes], packed: Path, tmp_path: Path
) -> None:
    for content in DAMAGED_GRAPHS.values():
        packed.write_bytes(pack(("net-symbol.json", content), PARAMS))
        assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == {
            "net-symbol.json": content
        }
    packed.write_bytes(pack(("net-symbol.json", LARGE["too large"]), PARAMS))
    with pytest.raises(SourceError, match=r"'net-symbol\.json' has 4194305 bytes; 4194304 are allowed"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_two_json_files_of_one_name_are_refused(
    pack: Callable[..., bytes], packed: Path, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's, of the same
        packed.write_bytes(pack(("net.json", GRAPH), PARAMS, ("net.json", GRAPH)))
    with pytest.raises(SourceError, match=r"holds 'net\.json' twice"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_graph_in_a_zip_whose_name_is_marked_as_utf8_is_kept(packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(zipped(("é-symbol.json", GRAPH), PARAMS))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).documents == {"é-symbol.json": GRAPH}


def test_encrypted_graph_in_a_zip_is_refused(packed: Path, tmp_path: Path) -> None:
    content = bytearray(zipped(("net-symbol.json", GRAPH), PARAMS))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    packed.write_bytes(content)
    with pytest.raises(SourceError, match=r"'net-symbol\.json' is encrypted or neither stored nor deflated"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_graph_in_a_zip_that_cannot_be_unpacked_is_refused(packed: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(*PARAMS)
        archive.writestr("net-symbol.json", GRAPH, zipfile.ZIP_BZIP2)
        archive.writestr("notes.json", GRAPH, zipfile.ZIP_BZIP2)
    packed.write_bytes(stream.getvalue())
    with pytest.raises(SourceError, match=r"'net-symbol\.json' is encrypted or neither stored nor deflated"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_member_whose_name_is_no_text_is_named_without_an_error(packed: Path, tmp_path: Path) -> None:
    name = b"n\xffet-symbol.json".decode(errors="surrogateescape")
    packed.write_bytes(tarred((name, GRAPH), PARAMS, form=tarfile.GNU_FORMAT))
    documents = archives.unpack(packed, tmp_path / "unpacked", silent).documents
    assert documents == {"n\N{REPLACEMENT CHARACTER}et-symbol.json": GRAPH}


MANY = [(f"{number}.json", b"{" + b" " * (archives.MAX_DOCUMENT_BYTES - 1)) for number in range(5)]


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_too_much_json_is_refused(pack: Callable[..., bytes], packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(pack(*MANY, PARAMS))
    with pytest.raises(SourceError, match=f"more than {archives.MAX_DOCUMENTS_BYTES} bytes of JSON"):
        archives.unpack(packed, tmp_path / "unpacked", silent)
    packed.write_bytes(pack(*MANY[:3], PARAMS))
    assert len(archives.unpack(packed, tmp_path / "unpacked", silent).documents) == 3


def header_of(size: int) -> bytes:
    """Return a tar that begins with an extended header of that many bytes."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf() + bytes(size) + tarred(PARAMS)


WITHOUT_END = tarred(PARAMS)[: 512 + -(-len(CONTENT) // 512) * 512]
REFUSED = {
    "none": (tarred(("readme", b"x")), r"a tar with one \.params expected, none found"),
    "two": (tarred(PARAMS, ("b.params", CONTENT)), r"a tar with one \.params expected, more found"),
    "only a link": (
        tarred((link("a.params", "/etc/passwd"), b"")),
        r"a tar with one \.params expected, none",
    ),
    "cut in the file": (tarred(PARAMS)[:1000], "cannot be unpacked: "),
    "cut in a header": (tarred(("readme", b"x"), PARAMS)[:1100], "cannot be unpacked: a damaged header"),
    "a spoilt header": (WITHOUT_END + b"\1" * 512 + bytes(1024), "cannot be unpacked: a damaged"),
    "another tar behind it": (tarred(PARAMS) + tarred(("net.json", GRAPH)), ".*something after the tar"),
    "a header of two megabytes": (header_of(2 * MEGABYTE), r"a header of \d+ bytes"),
    "many members": (
        b"".join(tarfile.TarInfo(f"{number}").tobuf() for number in range(archives.MAX_MEMBERS))
        + tarred(PARAMS),
        f"more than {archives.MAX_MEMBERS} members",
    ),
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_tar_that_is_damaged_or_a_bomb_is_refused(
    content: bytes, message: str, kind: str, packed: Path, tmp_path: Path
) -> None:
    packed.write_bytes(PACKERS[kind](content))
    with pytest.raises(SourceError, match=f"model.bin: ({message})"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_what_just_fits_is_read(packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(header_of(MEGABYTE))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).sha1
    members = (tarfile.TarInfo(f"{number}").tobuf() for number in range(archives.MAX_MEMBERS - 1))
    packed.write_bytes(b"".join(members) + tarred(PARAMS))
    assert archives.unpack(packed, tmp_path / "unpacked", silent).sha1


def test_a_compressed_tar_may_not_unpack_to_any_size(packed: Path, tmp_path: Path) -> None:
    limit = archives.SMALL
    packed.write_bytes(gzip.compress(tarred(("zeros", bytes(limit)), PARAMS), 1))
    with pytest.raises(SourceError, match=f"unpacks to more than {limit} bytes"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def test_the_checksum_of_a_compressed_tar_is_checked(packed: Path, tmp_path: Path) -> None:
    content = bytearray(gzip.compress(tarred(PARAMS)))
    content[-8] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be unpacked: CRC check failed"):
        archives.unpack(packed, tmp_path / "unpacked", silent)


def in_zip(params: bytes, graph: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("net-0000.params", params)
        archive.writestr("net-symbol.json", graph)
        archive.writestr("synset.txt", "cat\n")
        archive.writestr("MAR-INF/MANIFEST.json", "{}")
    return stream.getvalue()


WITH_GRAPH: dict[str, Callable[[bytes, bytes], bytes]] = {
    "net.mar": in_zip,
    "net.zip": in_zip,
    "model.tar": lambda params, graph: tarred(("./net-0000.params", params), ("./net-symbol.json", graph)),
    "model.tar.gz": lambda params, graph: gzip.compress(
        tarred(("net-symbol.json", graph), ("net-0000.params", params)), 1
    ),
}


@pytest.mark.parametrize("name", WITH_GRAPH)
def test_the_graph_in_an_archive_is_compared_with_the_model(
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
    with pytest.raises(SymbolError, match=rf"{name}: .*net-symbol\.json: the graph is not that of tiny"):
        conversion.run(request)
