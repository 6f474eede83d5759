"""What can be wrong with a conversion. Every error names the place, what was expected and what was found."""

from __future__ import annotations


class ConversionError(Exception):
    """The conversion was refused. Nothing has been written under a final name."""


class CatalogError(ConversionError):
    """No such model, or a mapping file that cannot be read."""


class SourceError(ConversionError):
    """The parameters could not be found, fetched, or are not the published ones."""


class ParamsError(ConversionError):
    """The file is no ``.params`` file that can be read: malformed, truncated, or of a kind not supported."""


class DialectError(ConversionError):
    """The parameters are named in a style that is not read."""


class SymbolError(ConversionError):
    """The graph beside the parameters cannot be read, or is not the model's."""


class LabelsError(ConversionError):
    """The class names cannot be read, or are not as many as the classes."""


class PrecisionError(ConversionError):
    """The weights cannot be had in this type."""


class MappingError(ConversionError):
    """Names, shapes or types do not fit the model."""


class CheckpointError(ConversionError):
    """The file is no checkpoint that can be read, or two checkpoints cannot be compared."""


class ReferenceUnavailableError(ConversionError):
    """The reference framework cannot run here."""


class ReferenceFailedError(ReferenceUnavailableError):
    """The reference framework runs here, and did not get through."""


class ParityError(ConversionError):
    """The outputs differ by more than the limit, or the proof would prove nothing."""


class ArtifactError(ConversionError):
    """The output could not be written, or did not read back as it was written."""


class ClassifierError(ConversionError):
    """The network cannot run here, or gives no numbers."""


class ImageError(ConversionError):
    """An image is not there or cannot be read, or what reads it is not installed."""


class EvaluationError(ConversionError):
    """The folder's classes are not the network's, or not every image was counted."""


class ProcessesError(ConversionError):
    """Another process stopped."""


class PublicationError(ConversionError):
    """What is to be published is not fit for it, or where it is to go is not free."""


class SignatureError(ConversionError):
    """There is no signature, it is not by this key of these files, or it cannot be made."""


class VerificationError(ConversionError):
    """There is nothing that could be verified."""


class HubError(ConversionError):
    """The hub refused, or could not be reached. The folder stays where it was written."""
