"""Write a traced network as ONNX with torch's exporter, and run ONNX with onnxruntime."""

from __future__ import annotations

import contextlib
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from converter.errors import ExportError
from converter.formats import program_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.program_file import TracedNetwork

SUFFIX = ".onnx"
DATA_SUFFIX = ".onnx.data"  # of the weights, if they are in a file of their own
OPSET = 18
PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # the extra `onnx`
MAX_BYTES = 2_000_000_000  # of weights inside the file: protobuf's limit, 2 GiB, with room for the graph


def require_packages(purpose: str = "an ONNX file") -> None:
    """Check, before any work, that the packages are installed.

    Args:
        purpose: what needs them, the first words of the message.

    Raises:
        ExportError: if one is missing, with the command that installs them.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ExportError(
            f"{purpose} needs {', '.join(missing)}, which cannot be found\n"
            '  try         pip install "gluon2torch[onnx]"'
        )


def write(traced: TracedNetwork, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a traced network as ONNX; weights of more than 2 GB are written to a second file next to it.

    Args:
        traced: the network.
        path: the file. The second one has its name with ``.data``, under which the first refers to it.
        inputs: the names of the inputs.
        outputs: the names of the outputs.

    Raises:
        ExportError: if torch cannot express the network in ONNX.
    """
    import torch  # noqa: PLC0415 - when a network runs and not before

    size = sum(tensor.nbytes for tensor in traced.program.state_dict.values())
    axes = ({0: torch.export.Dim(program_file.BATCH)},) if traced.dynamic else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated parts of torch that its own exporter uses
            torch.onnx.export(
                traced.program,
                (),
                path,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=axes,
                opset_version=OPSET,
                dynamo=True,
                external_data=size > MAX_BYTES,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(f"torch cannot write the network as ONNX\n  found       {reason}") from error


class OnnxSession:
    """An ONNX file with one input, run by onnxruntime on the CPU.

    Args:
        path: the file.
        threads: number of threads, 0 for one per core.

    Raises:
        ExportError: if onnxruntime cannot run it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime  # noqa: PLC0415 - optional

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with _failures():
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, images: Array) -> list[Array]:
        """Return the outputs.

        Raises:
            ExportError: if onnxruntime cannot run the file on these images.
        """
        with _failures():
            (image,) = self._session.get_inputs()
            results: list[Array] = self._session.run(None, {image.name: images})
        return results


def run(path: Path, images: Array) -> list[Array]:
    """Return the outputs of an ONNX file with one input.

    Raises:
        ExportError: if onnxruntime cannot run it.
    """
    return OnnxSession(path).run(images)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Raise an error of onnxruntime as an ``ExportError``."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415 - as above

    failures = (
        *(errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf),
        *(errors.NoSuchFile, errors.NotImplemented, errors.RuntimeException),
    )
    try:
        yield
    except failures as error:
        raise ExportError(
            f"onnxruntime cannot run the ONNX file\n  found       {str(error).partition(chr(10))[0]}"
        ) from error


def versions() -> dict[str, str]:
    """Return the versions of the packages that write and run the file."""
    return {**program_file.versions(), **{name: version(name) for name in PACKAGES}}
