"""``convert-many``: what is found, converted, skipped and refused, on local folders."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from fleet_checkpoints import (
    FAST,
    UNPROVEN,
    convert,
    row_of,
    verdicts,
    write_archive,
    write_graph,
    write_model,
)
from typer.testing import CliRunner

import converter
from converter.cli.app import app
from converter.errors import SourceError, UsageError
from converter.fleet.rows import Row
from converter.formats.params import load_params, save_params
from converter.networks import catalog

if TYPE_CHECKING:
    from pathlib import Path

SMALL = "gluon_cifar_resnext29_32x4d"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with the parameters of a model, a graph and an archive."""
    folder = tmp_path / "source"
    write_model(folder / "team" / "mine.params", catalog.find(SMALL))
    (folder / "team" / "classes.txt").write_text("".join(f"class {number}\n" for number in range(10)))
    write_graph(folder / "other")
    write_archive(folder / "model.tar.gz", tmp_path / "packed")
    return folder


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """Return a folder with two graphs."""
    for name in "ab":
        write_graph(tmp_path / "source" / name)
    return tmp_path / "source"


def index(out: Path) -> dict[str, Row]:
    document = json.loads((out / "index.json").read_text())
    rows = msgspec.convert(document["sources"], list[Row])
    return {row.source: row for row in rows}


def test_three_kinds_of_checkpoints_are_converted(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = convert(source, out)
    assert verdicts(summary) == dict.fromkeys(
        ["model.tar.gz", "other/net-0000.params", "team/mine.params"], "converted"
    )
    assert index(out) == {row.source: row for row in summary.sources}
    for row in summary.sources:
        assert converter.verify(out / (row.artifact or "")).holds
    assert row_of(summary, "team/mine.params").model == SMALL
    (manifest,) = (out / "team").rglob("*.json")
    assert json.loads(manifest.read_text())["labels"][3] == "class 3"


def test_row_has_the_proof(graphs: Path, tmp_path: Path) -> None:
    row = row_of(convert(graphs, tmp_path / "out", options=FAST), "a/net-0000.params")
    assert row.proof is not None
    assert (row.proof.reference, row.proof.definition, row.proof.sizes) == ("numpy", "graph", ("32x32",))
    assert 0 <= row.proof.error == row.proof.errors["float64"] < 1e-12


def test_second_run_converts_only_what_is_new_or_changed(graphs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(graphs, out)
    write_graph(graphs / "b", classes=3)
    write_graph(graphs / "c")
    summary = convert(graphs, out)
    assert [*verdicts(summary).values()] == ["skipped", "converted", "converted"]
    assert [row.verdict for row in index(out).values()] == ["skipped", "converted", "converted"]
    assert [*verdicts(convert(graphs, out)).values()] == ["skipped"] * 3


def test_file_with_a_new_time_and_the_same_content_is_not_converted_again(
    graphs: Path, tmp_path: Path
) -> None:
    first = convert(graphs, tmp_path / "out")
    (graphs / "a" / "net-0000.params").touch()
    second = convert(graphs, tmp_path / "out")
    assert [*verdicts(second).values()] == ["skipped", "skipped"]
    old, new = (row_of(summary, "a/net-0000.params") for summary in (first, second))
    assert (old.content, old.sha256) == (new.content, new.sha256)
    assert old.stamp != new.stamp


@pytest.mark.parametrize("suffix", [".safetensors", ".json", ".py"])
def test_missing_file_in_the_output_is_converted_again(graphs: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "out"
    convert(graphs, out)
    next((out / "a").rglob(f"*{suffix}")).unlink()
    assert [*verdicts(convert(graphs, out)).values()] == ["converted", "skipped"]


def test_stronger_proof_is_converted_again_and_a_weaker_one_skipped(graphs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(graphs, out)
    assert [*verdicts(convert(graphs, out, options=FAST)).values()] == ["converted"] * 2
    assert [*verdicts(convert(graphs, out)).values()] == ["skipped"] * 2
    other = converter.ParityOptions("numpy", sizes=[33], dtypes=["float64"])
    assert [*verdicts(convert(graphs, out, options=other)).values()] == ["converted"] * 2


def test_report_of_each_kind_of_checkpoint_is_written_and_linked(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = convert(source, out, options=FAST, report=True)
    assert [*verdicts(summary).values()] == ["converted"] * 3
    page = (out / "overview.html").read_text()
    for row in summary.sources:
        assert row.report is not None
        assert "float64" in (out / row.report).read_text()
        assert f'href="./{row.report}"' in page
    assert [*verdicts(convert(source, out, options=FAST, report=True)).values()] == ["skipped"] * 3
    (out / (summary.sources[0].report or "")).unlink()
    again = convert(source, out, options=FAST, report=True)
    assert [*verdicts(again).values()] == ["converted", "skipped", "skipped"]


def test_archives_with_different_graphs_of_one_name_do_not_collide(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number, classes in enumerate((2, 3)):
        write_graph(tmp_path / str(number), classes=classes)
        source.mkdir(exist_ok=True)
        with tarfile.open(source / f"{number}.tar", "w") as archive:
            for file in sorted((tmp_path / str(number)).iterdir()):
                archive.add(file, file.name)
    summary = convert(source, tmp_path / "out")
    assert [*verdicts(summary).values()] == ["converted", "converted"]
    assert all(converter.verify(tmp_path / "out" / (row.artifact or "")).holds for row in summary.sources)


def test_bad_checkpoints_have_reasons_and_the_others_are_converted(graphs: Path, tmp_path: Path) -> None:
    (graphs / "nonsense.params").write_bytes(b"nonsense")
    (graphs / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08")
    with tarfile.open(graphs / "hostile.tar", "w") as archive:
        archive.add(graphs / "a" / "net-0000.params", "../../x.params")
        archive.add(graphs / "a" / "net-0000.params", "y.params")
    save_params({"my_own_weight": np.ones((2, 2), np.float32)}, graphs / "unknown.params")
    (graphs / "alone").mkdir()
    (graphs / "alone" / "net-0000.params").write_bytes((graphs / "a" / "net-0000.params").read_bytes())
    (graphs / "outside.params").symlink_to("/etc/hostname")
    summary = convert(graphs, tmp_path / "out")
    reasons = {row.source: row.reason for row in summary.sources if row.verdict == "failed"}
    assert "not a .params file" in reasons["nonsense.params"]
    assert "cannot be unpacked" in reasons["cut.tar.gz"]
    assert "expected a tar with exactly one .params, found 2" in reasons["hostile.tar"]
    assert reasons.keys() >= {"unknown.params", "alone/net-0000.params"}
    assert summary.counts == {"converted": 2, "skipped": 0, "failed": 6}
    assert reasons["outside.params"] == "outside.params is refused: a link to /etc/hostname"
    assert not any(str(tmp_path) in reason or ".convert-" in reason for reason in reasons.values())
    assert not (tmp_path / "x.params").exists()


def test_failure_is_tried_again(graphs: Path, tmp_path: Path) -> None:
    params = graphs / "a" / "net-0000.params"
    content = params.read_bytes()
    params.write_bytes(b"nonsense")
    assert [*verdicts(convert(graphs, tmp_path / "out")).values()] == ["failed", "converted"]
    assert [*verdicts(convert(graphs, tmp_path / "out")).values()] == ["failed", "skipped"]
    params.write_bytes(content)
    assert [*verdicts(convert(graphs, tmp_path / "out")).values()] == ["converted", "skipped"]


def test_class_names_that_do_not_fit_are_reported_and_not_used(source: Path, tmp_path: Path) -> None:
    (source / "team" / "classes.txt").write_text("cat\ndog\n")
    row = row_of(convert(source, tmp_path / "out"), "team/mine.params")
    assert row.verdict == "converted"
    assert "class names not used: " in row.reason
    assert "expected 10 class names" in row.reason


def test_numbers_of_a_synset_are_left_out(source: Path, tmp_path: Path) -> None:
    lines = [f"n0000000{number} fish {number}\n" for number in range(10)]
    (source / "team" / "mine-synset.txt").write_text("".join(lines))
    row = row_of(convert(source, tmp_path / "out"), "team/mine.params")
    manifest = json.loads((tmp_path / "out" / [*row.files][-1]).read_text())
    assert manifest["labels"][:2] == ["fish 0", "fish 1"]


def test_epochs_of_a_network_share_its_graph_and_its_module(graphs: Path, tmp_path: Path) -> None:
    first = graphs / "a" / "net-0000.params"
    arrays = load_params(first)
    save_params({name: array * 2 for name, array in arrays.items()}, first.with_name("net-0001.params"))
    summary = convert(graphs / "a", tmp_path / "out")
    assert verdicts(summary) == dict.fromkeys(["net-0000.params", "net-0001.params"], "converted")
    assert len({row.sha256 for row in summary.sources}) == 2


def test_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="contains no checkpoint"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(SourceError, match="missing: not found: expected a folder, or a list"):
        convert(tmp_path / "missing", tmp_path / "out")
    with pytest.raises(SourceError, match="not found"):
        convert("x" * 300, tmp_path / "out")
    (tmp_path / "net.bin").touch()
    with pytest.raises(SourceError, match="not a folder, nor a list"):
        convert(tmp_path / "net.bin", tmp_path / "out")


def test_python_function_converts_a_source(graphs: Path, tmp_path: Path) -> None:
    started: list[str] = []
    ended: list[Row] = []
    summary = converter.convert_many(
        "auto", tmp_path / "out", source=graphs, options=UNPROVEN, jobs=1, on_start=started.append,
        on_end=ended.append,
    )  # fmt: skip
    assert summary.counts["converted"] == len(started) == len(ended) == 2


@pytest.mark.parametrize(
    ("models", "arguments", "message"),
    [
        (SMALL, {"source": "x"}, f"`source` requires the model auto, found '{SMALL}'"),
        ("auto", {"source": "x", "random": 0}, "`random` and `source` cannot be used together"),
        ("auto", {"source": "x", "jobs": 0}, "`jobs`: expected at least 1, found 0"),
        ("auto", {"source": "x", "report": True, "options": UNPROVEN}, "`report` requires a reference"),
        (SMALL, {"report": True}, "`report` requires `source`"),
    ],
)
def test_wrong_arguments_are_refused(
    models: str, arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        converter.convert_many(models, tmp_path / "out", **arguments)  # type: ignore[call-overload]
    assert not (tmp_path / "out").exists()


def test_command_prints_a_table_and_exits_with_1_after_a_failure(graphs: Path, tmp_path: Path) -> None:
    arguments = ["convert-many", str(graphs), str(tmp_path / "out"), "--reference", "none", "--jobs", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["counts"] == {"converted": 2, "skipped": 0, "failed": 0}
    assert "next    gluon2torch verify" in result.stderr
    (graphs / "bad.params").write_bytes(b"nonsense")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "failed  bad.params: " in result.stdout
    assert "0 converted, 2 skipped, 1 failed" in result.stdout
    assert CliRunner().invoke(app, [*arguments, "--size", "32"]).exit_code == 2
