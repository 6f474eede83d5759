"""Exceptions of the converter. Every message names the place and the expected and actual values."""

from __future__ import annotations


class ConversionError(Exception):
    """Base class: the conversion was refused, and no file was written under its final name."""


class UsageError(ConversionError, ValueError):
    """The arguments are not valid.

    Attributes:
        parameters: the parameters that the message names, each in backticks.
    """

    def __init__(self, message: str, *parameters: str) -> None:
        super().__init__(message)
        self.parameters = parameters


class CatalogError(ConversionError):
    """The model is unknown, or a mapping file describes no model."""


class SourceError(ConversionError):
    """The parameters cannot be found, unpacked or downloaded, or are not the published ones."""


class ParamsError(ConversionError):
    """The file is not a readable ``.params`` file: malformed, truncated or of an unsupported kind."""


class DialectError(ConversionError):
    """The parameter names follow no supported naming style."""


class SymbolError(ConversionError):
    """The graph of the parameters is malformed, or does not match the model."""


class LabelsError(ConversionError):
    """The class names are malformed, or their number differs from the number of classes."""


class PrecisionError(ConversionError):
    """The weights cannot be stored in the requested dtype."""


class MappingError(ConversionError):
    """Names, shapes or dtypes do not match the model."""


class TargetError(ConversionError):
    """The module of ``--target`` cannot be found, built or run."""


class CheckpointError(ConversionError):
    """The file is not a readable checkpoint, or two checkpoints cannot be compared."""


class NoStateDictError(CheckpointError):
    """The checkpoint has no state dict under the selected key."""


class ReferenceUnavailableError(ConversionError):
    """The reference framework cannot run here.

    Attributes:
        reason: why it cannot, without the alternatives in the message; "" if the message has none.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ReferenceFailedError(ReferenceUnavailableError):
    """The reference framework is available, but its run failed."""


class ParityError(ConversionError):
    """The outputs differ by more than the tolerance, or the check is vacuous."""


class StorageError(ConversionError):
    """The operating system refused a file operation, or a file is unsuitable or changed while it was read."""


class FileMissingError(StorageError):
    """A file, folder or bucket does not exist."""


class TorchUnavailableError(ConversionError):
    """A network must run, or a ``.pth`` be read or written, and torch is not installed."""


class ReportError(ConversionError):
    """The libraries that the HTML report needs are not installed."""


class ExportError(ConversionError):
    """The network cannot be written as ONNX or as a program of torch, or a package for that is missing."""


class ArtifactError(ConversionError):
    """The output would overwrite another file, or differs when read back."""


class ClassifierError(ConversionError):
    """The network cannot run here, or its output is not finite."""


class ImageError(ConversionError):
    """An image is missing or unreadable, or the library that decodes it is not installed."""


class EvaluationError(ConversionError):
    """The folder's classes do not match the network's, or an image was not counted."""


class ProcessesError(ConversionError):
    """A worker process stopped unexpectedly."""


class PublicationError(ConversionError):
    """The content is not fit for publication, or the destination is not free."""


class SignatureError(ConversionError):
    """The signature is missing, does not match the key or the files, or cannot be created."""


class VerificationError(ConversionError):
    """There is nothing that can be verified."""


class HubError(ConversionError):
    """The Hugging Face Hub refused the upload or is unreachable. The local folder is kept."""
