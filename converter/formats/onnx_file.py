"""Write a traced network as ONNX with torch's exporter, and run ONNX with onnxruntime."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from converter.errors import ExportError
from converter.formats import program_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.dtypes import Array
    from converter.formats.program_file import TracedNetwork

SUFFIX = ".onnx"
DATA_SUFFIX = ".onnx.data"  # of the weights, if they are in a file of their own
OPSET = 18
PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # the extra `onnx`
MAX_BYTES = 2_000_000_000  # of weights inside the file: protobuf's limit, 2 GiB, with room for the graph


def require_packages() -> None:
    """Check, before any work, that the packages are installed.

    Raises:
        ExportError: if one is missing, with the command that installs them.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ExportError(
            f"an ONNX file needs {', '.join(missing)}, which cannot be found\n"
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


def run(path: Path, images: Array) -> list[Array]:
    """Return the outputs of an ONNX file with one input, computed by onnxruntime on the CPU.

    Raises:
        ExportError: if onnxruntime cannot run it.
    """
    import onnxruntime  # noqa: PLC0415 - optional
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415 - as above

    failures = (
        *(errors.Fail, errors.InvalidArgument, errors.InvalidGraph),
        *(errors.NotImplemented, errors.RuntimeException),
    )
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (image,) = session.get_inputs()
        results: list[Array] = session.run(None, {image.name: images})
    except failures as error:
        raise ExportError(
            f"onnxruntime cannot run the ONNX file\n  found       {str(error).partition(chr(10))[0]}"
        ) from error
    return results


def versions() -> dict[str, str]:
    """Return the versions of the packages that write and run the file."""
    return {**program_file.versions(), **{name: version(name) for name in PACKAGES}}
