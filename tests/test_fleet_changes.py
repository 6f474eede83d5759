"""``convert-many`` never takes the result of one checkpoint for another, whatever changed in between."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet_checkpoints import convert, row_of, verdicts, write_graph

from converter.commands import fleet_conversion
from converter.errors import SourceError, StorageError, UsageError
from converter.fleet import checkpoint_list
from converter.formats.params import save_params
from converter.networks import recorded_graphs, recorded_sources
from converter.storage import stores

if TYPE_CHECKING:
    from converter.fleet.rows import FleetSummary

PARAMS = "net-0000.params"


def same_time(first: Path, second: Path) -> None:
    """Give a file the size and the time of another one, as normalized archives have them."""
    assert first.stat().st_size == second.stat().st_size
    os.utime(second, ns=(first.stat().st_atime_ns, first.stat().st_mtime_ns))


def convert_list(text: str, folder: Path) -> FleetSummary:
    path = folder / "list.csv"
    path.write_text(text)
    return convert(path, folder / "out")


def test_checkpoint_of_another_source_is_another_one(tmp_path: Path) -> None:
    first, second = write_graph(tmp_path / "a"), write_graph(tmp_path / "b", seed=1)
    same_time(first, second)
    same_time(tmp_path / "a" / "net-symbol.json", tmp_path / "b" / "net-symbol.json")
    before, after = (row_of(convert(tmp_path / name, tmp_path / "out"), PARAMS) for name in "ab")
    assert (after.verdict, after.sha1 != before.sha1) == ("converted", True)


def test_changed_file_with_its_old_size_and_time_is_converted(tmp_path: Path) -> None:
    old = write_graph(tmp_path / "source")
    before = row_of(convert(tmp_path / "source", tmp_path / "out"), PARAMS)
    new = write_graph(tmp_path / "new", seed=1)
    same_time(old, new)
    new.replace(old)
    after = row_of(convert(tmp_path / "source", tmp_path / "out"), PARAMS)
    assert (after.verdict, after.sha1 != before.sha1) == ("converted", True)


def test_changed_setting_of_a_list_is_not_ignored(tmp_path: Path) -> None:
    write_graph(tmp_path)
    line = f"{PARAMS},net-symbol.json"
    assert [*verdicts(convert_list(f"source,symbol\n{line}\n", tmp_path)).values()] == ["converted"]
    summary = convert_list(f"source,symbol,model\n{line},gluon_resnet18_v1b\n", tmp_path)
    assert [*verdicts(summary).values()] == ["failed"]
    assert [*verdicts(convert_list(f"source,symbol\n{line}\n", tmp_path)).values()] != ["failed"]


def test_file_behind_a_link_is_read_again(tmp_path: Path) -> None:
    for seed in range(2):
        write_graph(tmp_path / str(seed), seed=seed)
    rows = []
    for seed in range(2):
        (tmp_path / "latest").unlink(missing_ok=True)
        (tmp_path / "latest").symlink_to(tmp_path / str(seed))
        lines = (f"{folder}/{PARAMS},{folder}/net-symbol.json\n" for folder in ("0", "latest"))
        rows.append(row_of(convert_list(f"source,symbol\n{''.join(lines)}", tmp_path), f"latest/{PARAMS}"))
    assert [row.verdict for row in rows] == ["converted", "converted"]
    assert rows[0].sha1 != rows[1].sha1


def test_damaged_weights_in_the_output_are_converted_again(tmp_path: Path) -> None:
    write_graph(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "out")
    (file,) = (tmp_path / "out").rglob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:100])
    assert [*verdicts(convert(tmp_path / "source", tmp_path / "out")).values()] == ["converted"]
    assert file.read_bytes() == content


def test_foreign_module_in_the_output_is_a_failure(tmp_path: Path) -> None:
    write_graph(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "out")
    (file,) = (tmp_path / "out").rglob("*.py")
    file.write_text("import os")
    row = row_of(convert(tmp_path / "source", tmp_path / "out"), PARAMS)
    assert (row.verdict, file.name in row.reason) == ("failed", True)
    assert file.read_text() == "import os"


def test_file_that_changes_during_its_conversion_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = write_graph(tmp_path / "source")
    run = fleet_conversion._run

    def replace_first(*arguments: object) -> object:
        write_graph(tmp_path / "new", seed=1).replace(params)
        return run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fleet_conversion, "_run", replace_first)
    row = row_of(convert(tmp_path / "source", tmp_path / "out"), PARAMS)
    assert (row.verdict, row.reason) == ("failed", f"params/{PARAMS}: the file was changed while it was read")


def test_list_cannot_write_out_of_the_output(tmp_path: Path) -> None:
    write_graph(tmp_path / "elsewhere")
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "list.csv"
    path.write_text(f"source\n../elsewhere/{PARAMS}\n")
    for place in path, path.as_uri():
        assert [*verdicts(convert(place, tmp_path / "out")).values()] == ["converted"]
        written = set(tmp_path.rglob("*.safetensors"))
        assert written
        assert all(file.is_relative_to(tmp_path / "out") for file in written)
        shutil.rmtree(tmp_path / "out")


def test_url_on_a_list_cannot_leave_its_bucket(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"source\ns3://bucket/models/../../other/{PARAMS}\n")
    with pytest.raises(SourceError, match=r"a URL with \. or \.\."):
        checkpoint_list.read(str(path))


def test_unreachable_line_does_not_stop_the_others(tmp_path: Path) -> None:
    write_graph(tmp_path)
    text = f"source,symbol\n{PARAMS},net-symbol.json\nfile:///no-such-folder/a.params,\n"
    summary = convert_list(text, tmp_path)
    assert [*verdicts(summary).values()] == ["converted", "failed"]
    assert "no-such-folder" in summary.sources[1].reason


@pytest.mark.skipif(os.name == "nt", reason="names are text on Windows")
def test_undecodable_name_is_a_row(tmp_path: Path) -> None:
    params = write_graph(tmp_path / "source")
    bad = Path(os.fsdecode(os.fsencode(tmp_path / "source") + b"/bad\xff.params"))
    bad.write_bytes(params.read_bytes())
    summary = convert(tmp_path / "source", tmp_path / "out")
    assert verdicts(summary) == {r"bad\udcff.params": "failed", PARAMS: "converted"}


def test_long_text_next_to_parameters_is_not_a_failure(tmp_path: Path) -> None:
    write_graph(tmp_path / "source")
    (tmp_path / "source" / "net.txt").write_bytes(b"epoch 1\n" * (1 << 20))
    row = row_of(convert(tmp_path / "source", tmp_path / "out"), PARAMS)
    assert row.verdict == "converted"
    assert row.reason.startswith("class names not used: labels/net.txt: more than")


@pytest.mark.parametrize("location", ["S3://bucket/x", "s3:/bucket/x", "zip::s3://bucket/x.zip"])
def test_mistyped_url_is_no_folder(location: str) -> None:
    with pytest.raises(UsageError, match="neither a folder nor the URL"):
        stores.open_store(location)
    assert stores.open_store("C:/models").folder is not None


def test_index_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    write_graph(tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.json").write_text('{"mine": 1}')
    with pytest.raises(StorageError, match="not the index of a fleet"):
        convert(tmp_path / "source", out)
    assert [path.name for path in out.iterdir()] == ["index.json"]
    assert (out / "index.json").read_text() == '{"mine": 1}'
    (out / "index.json").unlink()
    for verdict in "converted", "skipped":
        assert [*verdicts(convert(tmp_path / "source", out)).values()] == [verdict]


def test_selected_class_names_that_cannot_be_used_fail_the_line(tmp_path: Path) -> None:
    network = recorded_graphs.load("cifar_resnet20_v1")
    save_params(recorded_sources.random_arrays(network, 0), tmp_path / "net.params")
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(10))))
    lines = [f"net.params,names.txt,{model}\n" for model in ("cifar_resnet20_v1", "auto")]
    for line in lines:
        summary = convert_list(f"source,labels,model\n{line}", tmp_path)
        assert [*verdicts(summary).values()] == ["failed"]
        assert "cifar_resnet20_v1 becomes a generated module" in summary.sources[0].reason
