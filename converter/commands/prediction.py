"""Predict with converted weights: of a network that has a name, or of a converted graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.commands import module_source, target_network
from converter.errors import UsageError
from converter.formats import detect, precision, torch_package, weights_folder
from converter.formats.kinds import GLUON, PACKED
from converter.manifests import converted_weights, target_weights
from converter.parity import generated_network
from converter.progress import silent
from converter.storage import disk
from converter.vision import classifier, graph_documents, graph_network, graph_prediction, prediction
from converter.vision.graph_network import BuiltModule, GraphNetwork, GraphNetworkOptions
from converter.vision.prediction import PredictionRequest

if TYPE_CHECKING:
    from pathlib import Path

    from converter.choices import PredictionTask
    from converter.manifests.converted_weights import ConvertedWeights
    from converter.manifests.target_records import TargetRecord
    from converter.progress import Progress
    from converter.vision.classifier import ClassifierOptions
    from converter.vision.graph_documents import DetectionRecord, SegmentationRecord
    from converter.vision.graph_prediction import GraphPredictionRequest, GraphPredictions
    from converter.vision.prediction import PredictionRecord, Predictions

SUPPRESSION = "box_nms"  # the function of a generated module; CenterNet has none


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """What to predict, and with which weights.

    Attributes:
        options: the weights and how to run them.
        images: the images, and what to do with the results.
        task: what a converted graph computes, None to detect it.
        size: height and width of its input, None for the graph's.
        symbol: the graph, None for that next to the weights, if any.
    """

    options: ClassifierOptions
    images: GraphPredictionRequest
    task: PredictionTask | None = None
    size: tuple[int, int] | None = None
    symbol: Path | None = None


def run(request: PredictRequest, progress: Progress = silent) -> Predictions | GraphPredictions:
    """Run the network of the weights on images.

    Raises:
        UsageError: if an option does not apply to the network.
        ConversionError: if weights or images cannot be read, or onnxruntime is to run the network and cannot.
    """
    options = request.options
    classifier.require_backend(options.backend, options.device)
    path = weights_folder.find_weights(options.weights)
    with disk.unchanged(path):
        network = _graph_network(path, request, progress)
    if network is None:
        return prediction.predict(_named(request), progress)
    return graph_prediction.predict(network, request.images, progress)


def _graph_network(path: Path, request: PredictRequest, progress: Progress) -> GraphNetwork | None:
    """Return the network of a converted graph, None if the weights are of a network that has a name."""
    if detect.kind(path) in GLUON | PACKED:  # which ``classifier.load`` refuses
        return None
    converted = converted_weights.find(path, request.options.key)
    if converted is None:
        return None
    torch_package.require_torch("a converted graph")
    if converted.target is None:
        return _generated(path, converted, request, progress)
    return _existing(path, converted, converted.target, request, progress)


def _generated(
    path: Path, weights: ConvertedWeights, request: PredictRequest, progress: Progress
) -> GraphNetwork:
    """Return the network of a generated module."""
    source = module_source.read(path, weights, request.symbol)
    state = {name: precision.widen(array) for name, array in weights.arrays.items()}
    module = generated_network.build(source, state, "float32")
    suppresses = SUPPRESSION in generated_network.namespace(source)
    built = BuiltModule(network=module, definition=source, suppresses=suppresses)
    return graph_network.describe(path, weights, built, _network_options(request), progress)


def _existing(
    path: Path,
    weights: ConvertedWeights,
    target: TargetRecord,
    request: PredictRequest,
    progress: Progress,
) -> GraphNetwork:
    """Return a model of timm or torchvision; other modules are not run, as a manifest can name any code.

    Raises:
        UsageError: if a graph is given.
        ArtifactError: if it is another module.
        TargetError: if the package is not installed.
    """
    if request.symbol is not None:
        raise UsageError("`symbol` requires the weights of a generated module", "symbol")
    module = target_network.load(path, target, weights.arrays)
    definition = repr((target.identity, target_weights.parse(target, str(path)).versions))
    built = BuiltModule(network=module, definition=definition)
    return graph_network.describe(path, weights, built, _network_options(request), progress)


def document(
    predictions: Predictions | GraphPredictions, request: PredictRequest
) -> PredictionRecord | DetectionRecord | SegmentationRecord:
    """Return the JSON document of predictions."""
    if isinstance(predictions, prediction.Predictions):
        return prediction.document(predictions, request.options)
    return graph_documents.document(predictions, request.images)


def _network_options(request: PredictRequest) -> GraphNetworkOptions:
    options = request.options
    return GraphNetworkOptions(
        device=options.device, task=request.task, size=request.size, backend=options.backend
    )


def _named(request: PredictRequest) -> PredictionRequest:
    """Return the request for a network that has a name.

    Raises:
        UsageError: if it has an option of converted graphs.
    """
    images = request.images
    given = {
        "task": request.task,
        "size": request.size,
        "symbol": request.symbol,
        "score": images.score,
        "draw": images.draw,
        "labels": images.classes.labels,
        "dataset": images.classes.dataset,
    }
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"`{name}` requires the weights of a converted graph", name)
    return PredictionRequest(images.paths, request.options, images.top)
