"""Run an ONNX file as if it were the module that it was exported from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.choices import Backend
from converter.formats import onnx_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from converter.formats.onnx_file import OnnxSession
    from converter.manifests.schema import ExportRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxNetwork:
    """A network that onnxruntime runs on the CPU, with as many threads as torch.

    Attributes:
        file: the ONNX file.
        record: the comparison with the module.
        session: the open file.
    """

    file: Path
    record: ExportRecord
    session: OnnxSession

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the outputs, as the module does.

        Shape:
            images: that of the export; any number of images if the module takes any
        """
        import torch  # noqa: PLC0415 - takes more than a second

        outputs = tuple(torch.from_numpy(each) for each in self.session.run(images.numpy()))
        return outputs[0] if len(outputs) == 1 else outputs


def load(file: Path, record: ExportRecord) -> OnnxNetwork:
    """Open a file that was compared with its module.

    Raises:
        ExportError: if onnxruntime cannot run it.
    """
    import torch  # noqa: PLC0415 - as above

    session = onnx_file.OnnxSession(file, torch.get_num_threads())
    return OnnxNetwork(file=file, record=record, session=session)


def backend(network: nn.Module | OnnxNetwork) -> Backend:
    """Return the library that runs a network."""
    return Backend.onnxruntime if isinstance(network, OnnxNetwork) else Backend.torch
