"""Convert the weights that GluonCV published, for ``resnext_torch.create_model(name, pretrained=True)``.

``resnext_torch`` finds this function as an entry point, because it must not import this package.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from converter.commands import conversion
from converter.errors import ConversionError
from converter.parity.options import ParityOptions
from resnext_torch import WeightsError

if TYPE_CHECKING:
    from pathlib import Path

PROOF = ParityOptions()
log = logging.getLogger("resnext_torch")


def provide(name: str, folder: Path) -> Path:
    """Convert a network's published weights into a folder, and prove them.

    The parameters come from GluonCV's cache, or are downloaded or rebuilt from the Hub into it.

    Args:
        name: the network.
        folder: created if it does not exist. If the conversion fails, it stays as it is.

    Returns:
        The file, with its manifest next to it.

    Raises:
        WeightsError: if a step fails.
    """
    try:
        result = conversion.convert(name, folder, options=PROOF)
    except ConversionError as error:
        raise WeightsError(str(error)) from error
    if hub := result.manifest.source.hub:
        log.info("rebuilt GluonCV's file from hf-hub:%s@%s", hub.repository, hub.revision)
    return result.artifact
