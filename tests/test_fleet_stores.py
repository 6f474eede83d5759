"""``convert-many`` from a bucket into a bucket, of a real S3 server on loopback."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from fleet_checkpoints import convert, verdicts, write_archive, write_graph
from s3_server import s3, s3_server
from serving import serving_folder

import converter
from converter.errors import SourceError
from converter.fleet import checkpoint_list
from converter.storage import stores
from converter.storage.remote_store import RemoteStore

if TYPE_CHECKING:
    from pathlib import Path

    from converter.storage.store import Store

__all__ = ["s3", "s3_server"]  # fixtures


@pytest.fixture
def source(s3: str, tmp_path: Path) -> Store:
    """Return a bucket's prefix with three checkpoints."""
    store = stores.open_store(f"{s3}/models")
    for name in "abc":
        for file in write_graph(tmp_path / "local" / name).parent.iterdir():
            store.put(f"{name}/{file.name}", file)
    return store


def spy(monkeypatch: pytest.MonkeyPatch, method: str) -> list[str]:
    """Return the names that a method of remote stores is then called with."""
    calls: list[str] = []
    original = getattr(RemoteStore, method)

    def record(self: RemoteStore, name: str, *arguments: Any) -> Any:  # noqa: ANN401 - of any method
        calls.append(name)
        return original(self, name, *arguments)

    monkeypatch.setattr(RemoteStore, method, record)
    return calls


def test_bucket_is_converted_into_a_bucket(
    source: Store, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    put = spy(monkeypatch, "put")
    summary = convert(source.url, f"{s3}/converted")
    assert [*verdicts(summary).values()] == ["converted"] * 3
    assert list(temporary.iterdir()) == []
    out = stores.open_store(f"{s3}/converted")
    names = {entry.name for entry in out.entries()}
    for row in summary.sources:
        assert {*row.files} <= names
        kinds = [name.rpartition(".")[2] for name in put if name in row.files]
        assert kinds == ["safetensors", "py", "json"]
        for name in row.files:
            out.fetch(name, tmp_path / "copy" / name)
        assert converter.verify(tmp_path / "copy" / (row.artifact or "")).holds
    assert {"index.json", "overview.html"} <= names


def test_second_run_reads_no_checkpoint(source: Store, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = f"{s3}/converted"
    convert(source.url, out)
    fetched, asked = spy(monkeypatch, "fetch"), spy(monkeypatch, "entry")
    assert [*verdicts(convert(source.url, out)).values()] == ["skipped"] * 3
    assert all(name.endswith(".jsonl") for name in [*fetched, *asked])
    stores.open_store(source.url).write("a/net-0000.params", b"nonsense")
    assert [*verdicts(convert(source.url, out)).values()] == ["failed", "skipped", "skipped"]


def test_list_names_objects_of_buckets_and_files(source: Store, s3: str, tmp_path: Path) -> None:
    local = write_graph(tmp_path / "here")
    lines = ["source", f"{source.url}/b/net-0000.params", str(local), f"{source.url}/absent.params"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    summary = convert(tmp_path / "list.csv", f"{s3}/converted")
    assert [*verdicts(summary).values()] == ["converted", "converted", "failed"]
    assert "absent.params" in summary.sources[2].reason


def test_list_names_files_on_web_servers(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    path = write_archive(tmp_path / "web" / "team" / "net.tar.gz", tmp_path / "files")
    path.with_name("other.tar.gz").write_bytes(b"nonsense")
    with serving_folder(tmp_path / "web") as url:
        names = [f"{url}/team/{name}.tar.gz" for name in ("net", "other", "absent")]
        (tmp_path / "list.csv").write_text("\n".join(["source", *names]))
        summary = convert(tmp_path / "list.csv", tmp_path / "out")
        assert verdicts(summary) == dict(zip(names, ("converted", "failed", "failed"), strict=True))
        assert "nonsense" in summary.sources[1].reason
        assert "not found" in summary.sources[2].reason
        assert (tmp_path / "out" / (summary.sources[0].artifact or "")).exists()
        again = convert(tmp_path / "list.csv", tmp_path / "out")
        assert [*verdicts(again).values()] == ["skipped", "failed", "failed"]
        path.write_bytes(path.read_bytes() + b"\0" * 512)
        changed = convert(tmp_path / "list.csv", tmp_path / "out")
        assert [*verdicts(changed).values()] == ["converted", "failed", "failed"]


def test_file_on_a_web_server_has_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        "source,symbol\nhttps://host/net.params,https://host/net-symbol.json\n"
    )
    with pytest.raises(SourceError, match="a line with an https:// URL cannot name other files"):
        checkpoint_list.read(str(tmp_path / "list.csv"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("https://host/net.tar.gz?X-Amz-Signature=SECRET", "https://host/net.tar.gz: the URL has a query"),
        ("https://user:SECRET@host/net.tar.gz", "https://host/net.tar.gz: the URL contains a user name"),
        ("https://host/models/", "expected the URL of a file"),
        ("file://other/net.params", "a folder of another computer"),
        ("file:///net.params?SECRET", "the URL has a query"),
    ],
)
def test_unsuitable_url_on_a_list_is_refused(place: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"source\n{place}\n")
    with pytest.raises(SourceError, match=message) as raised:
        convert(tmp_path / "list.csv", tmp_path / "out")
    assert "SECRET" not in str(raised.value)
    assert not any("SECRET" in file.read_text() for file in (tmp_path / "out").rglob("*") if file.is_file())


def test_list_in_a_bucket_names_files_of_this_machine(s3: str, tmp_path: Path) -> None:
    params = write_graph(tmp_path / "here")
    stores.open_store(f"{s3}/lists").write("list.csv", f"source\n{params.as_uri()}\n".encode())
    assert [*verdicts(convert(f"{s3}/lists/list.csv", tmp_path / "out")).values()] == ["converted"]
