"""Converts one checkpoint of a fleet, in a process or on a machine that has the request alone."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec.structs

from converter.commands import automatic_conversion, graph_conversion, parity_check
from converter.commands.graph_conversion import GraphConversionResult
from converter.errors import ConversionError, LabelsError, SourceError, StorageError, UsageError
from converter.fleet import execution, rows, sources
from converter.fleet.rows import Row, Verdict
from converter.formats import labels
from converter.networks import graph_argument
from converter.parity import report
from converter.parity.options import ParityOptions
from converter.storage import disk, store_names, stores

if TYPE_CHECKING:
    from pathlib import Path

    from converter.commands.conversion import ConversionResult
    from converter.fleet.sources import CheckpointSource
    from converter.storage.store import Store

NO_LABELS = "class names not used"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRequest:
    """What a worker is sent.

    Attributes:
        source: the checkpoint.
        out: location of the output store.
        options: how to prove the conversion.
        report: whether to write a parity report.
        previous: an earlier conversion, which is reused if the contents are the same; None without one.
    """

    source: CheckpointSource
    out: str
    options: ParityOptions = ParityOptions()
    report: bool = False
    previous: Row | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files of a checkpoint on this machine."""

    params: Path
    graph: Path | None
    labels: Path | None

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.params, self.graph, self.labels) if path]


def convert(request: CheckpointRequest) -> Row:
    """Convert a checkpoint, and return its row; what refuses it is the reason in the row."""
    started, source = time.monotonic(), request.source
    with disk.temp_dir() as folder:
        try:
            row = _convert(request, folder)
        except (ConversionError, OSError, MemoryError) as error:
            row = failure(source, _plain(execution.reason(error), folder))
    return msgspec.structs.replace(row, seconds=round(time.monotonic() - started, 2))


def failure(source: CheckpointSource, reason: str) -> Row:
    """Return the row of a checkpoint that was not converted."""
    return Row(source=source.name, verdict=Verdict.failed, reason=reason, stamp=source.stamp)


def _plain(reason: str, folder: Path) -> str:
    """Return a reason without the temporary folder in it."""
    return reason.replace(f"{folder}/", "")


def _convert(request: CheckpointRequest, folder: Path) -> Row:
    source = request.source
    if source.refusal:
        raise SourceError(f"{source.name} is refused: {source.refusal}")
    files = _provide(source, folder)
    with contextlib.ExitStack() as stack:
        for path in files.paths:
            stack.enter_context(disk.unchanged(path))
        return _convert_unchanged(request, files, folder)


def _convert_unchanged(request: CheckpointRequest, files: _Files, folder: Path) -> Row:
    """Convert a checkpoint whose files do not change meanwhile, unless an earlier conversion holds."""
    source, previous = request.source, request.previous
    content = sources.content(source, [disk.sha256(path) for path in files.paths])
    if previous is not None and previous.content == content:
        return msgspec.structs.replace(previous, verdict=Verdict.skipped, stamp=source.stamp)
    out = stores.open_store(request.out)
    place = sources.output_folder(source, content)
    destination = folder / "out" if out.folder is None else out.folder / place
    result, reason = _run(request, files, destination)
    written = [result.artifact, *_more(result)]
    place_of_report = None
    if request.report:
        try:
            written.append(_report(request, files, result))
        except ConversionError as error:  # the conversion holds; the next run tries again
            reason = "; ".join(filter(None, [reason, f"no report: {error}"]))
        else:
            place_of_report = f"{place}/{written[-1].name}"
    written.append(result.manifest_file)  # last: a manifest never describes a missing file
    if out.folder is None:
        for path in written:
            out.put(f"{place}/{path.name}", path)
    manifest = result.manifest
    return Row(
        source=source.name,
        verdict=Verdict.converted,
        model=manifest.model,
        sha1=manifest.source.sha1,
        artifact=f"{place}/{result.artifact.name}",
        sha256=manifest.artifact.sha256,
        files={f"{place}/{path.name}": path.stat().st_size for path in written},
        proof=rows.proof(manifest.parity, request.options),
        report=place_of_report,
        reason=_plain(reason, folder),
        stamp=source.stamp,
        content=content,
    )


def _provide(source: CheckpointSource, folder: Path) -> _Files:
    """Fetch the files of a checkpoint, or link to those on this machine, each in a folder of its own.

    Raises:
        StorageError: if one does not exist or cannot be read.
    """
    store = stores.open_store(source.store)
    return _Files(
        params=_provide_file(store, source.params, folder / "params"),
        graph=_provide_file(store, source.graph, folder / "graph") if source.graph else None,
        labels=_provide_file(store, source.labels, folder / "labels") if source.labels else None,
    )


def _provide_file(store: Store, name: str, folder: Path) -> Path:
    store_names.require_safe(name, store.url)
    path = folder / name.rpartition("/")[2]
    with disk.writing(path):
        folder.mkdir()
    if store.folder is None:
        store.fetch(name, path)
        return path
    local = store.folder.absolute() / name
    disk.require_regular(local)
    try:
        path.symlink_to(local)
    except OSError:  # Windows allows links to administrators only
        with disk.reading(local):
            shutil.copyfile(local, path)
    return path


def _class_list(request: CheckpointRequest, path: Path | None) -> Path | None:
    """Return a file that names classes; of one that was found, without the WordNet IDs of ImageNet's synset.

    Raises:
        LabelsError: if it cannot be read, or does not name classes.
    """
    if path is None or request.source.requires_labels or path.suffix == ".json":
        return path
    try:
        content = disk.read_small(path, labels.MAX_BYTES)
    except StorageError as error:  # a log, for example
        raise LabelsError(str(error)) from error
    names = labels.parse_any_list(content, path.name)
    plain = path.with_name("names.json")
    disk.write_text(plain, json.dumps(names))
    return plain


def _run(
    request: CheckpointRequest, files: _Files, out: Path
) -> tuple[ConversionResult | GraphConversionResult, str]:
    """Convert a checkpoint, and return why class names that were found are not used."""
    try:
        return _convert_files(request, files, out, _class_list(request, files.labels)), ""
    except (LabelsError, UsageError) as error:
        is_about_labels = isinstance(error, LabelsError) or "labels" in error.parameters
        if files.labels is None or request.source.requires_labels or not is_about_labels:
            raise
        reason = f"{NO_LABELS}: {error}"
    return _convert_files(request, files, out, None), reason


def _convert_files(
    request: CheckpointRequest, files: _Files, out: Path, class_names: Path | None
) -> ConversionResult | GraphConversionResult:
    source = request.source
    if graph_argument.is_recorded(source.model):
        automatic_conversion.require_none({"labels": class_names}, source.model)
        return graph_conversion.convert_graph(source.model, out, params=files.params, options=request.options)
    return automatic_conversion.convert(
        source.model,
        out,
        params=files.params,
        symbol=files.graph,
        labels=class_names,
        input_shapes=source.input_shapes,
        options=request.options,
    )


def _more(result: ConversionResult | GraphConversionResult) -> list[Path]:
    """Return the files next to the weights, without the manifest."""
    module = result.module if isinstance(result, GraphConversionResult) else None
    return [*([module] if module else []), *result.more]


def _report(
    request: CheckpointRequest, files: _Files, result: ConversionResult | GraphConversionResult
) -> Path:
    """Compare the written weights once more, and write the report next to them."""
    source = request.source
    if isinstance(result, GraphConversionResult):
        network = result.manifest.source.network
        is_packed = network is None and files.graph is None
        document = parity_check.check(
            network or str(files.graph or files.params),
            params=None if is_packed else files.params,
            weights=result.artifact,
            graph_options={"input_shapes": source.input_shapes},
            options=request.options,
        )
    else:
        document = parity_check.check(
            source.model,
            params=files.params,
            weights=result.artifact,
            model_options={"symbol": files.graph},
            options=request.options,
        )
    path = result.artifact.with_suffix(".html")
    report.write(document, path)
    return path
