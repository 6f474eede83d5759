"""Turn checkpoints of the Hugging Face Hub back into the ``.params`` files that they were made from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from converter.errors import SourceError
from converter.formats.params import write_params
from converter.networks import detection, hub_configuration, state_dicts
from converter.sources import gluoncv_zoo, hub, params_file
from converter.storage import disk
from resnext_torch import names

if TYPE_CHECKING:
    from pathlib import Path

    from converter.networks.catalog import Model
    from converter.progress import Progress
    from converter.sources.hub import HubFile, HubRepository
    from converter.sources.params_file import ParamsFile

TIMM = "timm"  # the organization with GluonCV's weights
SENET = "gluon_senet154"  # docs/senet154.md


def take(
    model: Model | None,
    repository: HubRepository,
    folder: Path,
    progress: Progress,
    output_stride: int | None = None,
) -> ParamsFile:
    """Return the parameters of a repository as the ``.params`` file that GluonCV saves.

    Args:
        model: the model, None to detect it from the tensors.
        repository: the repository.
        folder: the folder for the file.
        progress: called with a step, the amount done and the total.
        output_stride: the output stride that the user selected.

    Raises:
        SourceError: if the checkpoint cannot be provided, is timm's SENet-154, or is of another network
            according to its ``config.json``.
        CheckpointError: if it is not a checkpoint.
        MappingError: if its tensors are not those of the model.
    """
    path = folder / f"{repository.name.rpartition('/')[2]}.params"
    origin, model = _rebuild(model, repository, path, progress)
    file = replace(params_file.from_file(path, folder, progress), hub=origin)
    try:
        _require_network(model, origin, repository, output_stride)
    except SourceError:
        if not file.is_published(model.published):  # GluonCV's weights need no description
            raise
    return file


def take_published(model: Model, folder: Path, progress: Progress) -> ParamsFile:
    """Return a model's published file: GluonCV's cache, its download, or timm's copy of the weights.

    Raises:
        SourceError: as ``gluoncv_zoo.take``.
    """
    repository = copy_of(model.name)
    if repository is None:
        return gluoncv_zoo.take(model.published, folder, progress)

    def rebuild(path: Path) -> HubFile:
        return _rebuild(model, repository, path, progress)[0]

    mirror = gluoncv_zoo.Mirror(str(repository), rebuild)
    return gluoncv_zoo.take(model.published, folder, progress, mirror=mirror)


def copy_of(name: str) -> HubRepository | None:
    """Return the repository with timm's copy of a model's published weights, None if there is none."""
    architecture = names.TIMM_ARCHITECTURES.get(name)  # SENet-154 is not one of them
    return hub.HubRepository(f"{TIMM}/{architecture}{names.TIMM_TAG}") if architecture else None


def _rebuild(
    model: Model | None, repository: HubRepository, path: Path, progress: Progress
) -> tuple[HubFile, Model]:
    """Write the ``.params`` of a repository's checkpoint; return where that came from, and its model."""
    _require_trusted(model, repository)
    file = hub.take(repository, progress)
    arrays = state_dicts.read(file.path).arrays
    if model is None:
        model = detection.require_one(
            detection.match_torch(arrays), arrays.values(), str(repository), hint="name the model"
        )
        _require_trusted(model, repository)
    model = detection.with_config_of(model, arrays, allow_headless=True)
    params = state_dicts.to_gluon(model, arrays, str(repository))
    with disk.writing(path), path.open("wb") as stream:
        write_params(stream, params)
    return file, model


def _require_network(
    model: Model, file: HubFile, repository: HubRepository, output_stride: int | None
) -> None:
    """Refuse weights of a network that has the same tensors as a model, but other outputs.

    Raises:
        SourceError: if they are of such a network, or of a SENet-154, of which timm has another.
    """
    if model.name == SENET:
        raise _untrusted(repository)
    content = hub.configuration(file)
    if content is not None:
        hub_configuration.require_network(model, content, str(repository), output_stride)


def _require_trusted(model: Model | None, repository: HubRepository) -> None:
    """Refuse timm's SENet-154.

    Raises:
        SourceError: if it was selected.
    """
    if model is not None and model.name == SENET and repository.name.lower().startswith(f"{TIMM}/"):
        raise _untrusted(repository)


def _untrusted(repository: HubRepository) -> SourceError:
    return SourceError(
        f"{repository}: timm's senet154 computes other outputs than GluonCV's, so it is unknown what these "
        "weights were checked with (docs/senet154.md); use --params"
    )
