"""The kinds of file that users pass: what each is, in a sentence, and what to do with it."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from enum import StrEnum

PICKLED = 'import pickle, numpy; numpy.savez("weights.npz", **pickle.load(open({literal}, "rb")))'
OBJECTS = 'import numpy; numpy.savez("weights.npz", **numpy.load({literal}, allow_pickle=True).item())'
ANOTHER_NETWORK = "only Gluon networks are converted: pass the .params that net.save_parameters writes"
UNPACK = "unpack it, and pass the .params inside"  # from an archive within an archive
UNPACK_OTHER = "unpack it, and run gluon2torch inspect on the file inside"
DOWNLOAD = "download the file itself, and compare its size with the published one"


class Kind(StrEnum):
    """The kind of a file, by its content."""

    ndarray_list = "ndarray-list"
    npz = "npz"
    safetensors = "safetensors"
    torch = "pth"
    gzip = "gzip"
    zip = "zip"
    tar = "tar"
    tar_gz = "tar.gz"
    graph = "graph"
    optimizer_states = "optimizer-states"
    estimator = "estimator"
    predictor = "predictor"
    mxnet_pickle = "mxnet-pickle"
    numpy_pickle = "numpy-pickle"
    pickle = "pickle"
    npy = "npy"
    npy_objects = "npy-objects"
    other_zip = "other-zip"
    damaged_zip = "damaged-zip"
    lfs_pointer = "lfs-pointer"
    html = "html"
    storage_error = "storage-error"
    xml = "xml"
    json = "json"
    onnx = "onnx"
    hdf5 = "hdf5"
    djl = "djl"
    tflite = "tflite"
    empty = "empty"
    unknown = "unknown"


@dataclass(frozen=True, slots=True)
class Description:
    """What a file is, and the next step.

    Attributes:
        what: what the file is, in a few words.
        next: the next step. ``{file}`` stands for the file's name in a command, ``{literal}`` for the name in
            Python code, and ``{program}`` for the program.
        program: a Python program that the step runs.
    """

    what: str
    next: str
    program: str = ""

    def step(self, name: str) -> str:
        """Return the next step for a file of this name, with the name quoted where it is needed."""
        literal = json.dumps(name, ensure_ascii=False)
        program = shlex.quote(self.program.format(literal=literal))
        return self.next.format(file=shlex.quote(name), literal=literal, program=program)


GLUON = frozenset({Kind.ndarray_list, Kind.npz})
PACKED = frozenset({Kind.gzip, Kind.zip, Kind.tar, Kind.tar_gz})
PYTORCH = frozenset({Kind.safetensors, Kind.torch})

TO_GLUON = "to convert it to Gluon: gluon2torch to-gluon {file} OUT.params"
CONVERT = "to convert it to PyTorch: gluon2torch convert auto OUT --params {file}"
DESCRIPTIONS = {
    Kind.ndarray_list: Description("Gluon parameters", CONVERT),
    Kind.npz: Description("Gluon parameters (npz)", CONVERT),
    Kind.safetensors: Description("a PyTorch checkpoint (safetensors), not Gluon parameters", TO_GLUON),
    Kind.torch: Description("a PyTorch checkpoint (pth), not Gluon parameters", TO_GLUON),
    Kind.gzip: Description("a gzip file, perhaps of Gluon parameters", CONVERT),
    Kind.zip: Description("a zip file with Gluon parameters", CONVERT),
    Kind.tar: Description("a tar file, perhaps with Gluon parameters", CONVERT),
    Kind.tar_gz: Description("a tar.gz file, perhaps with Gluon parameters", CONVERT),
    Kind.graph: Description(
        "the graph of an MXNet network, not its parameters",
        "pass the .params file of the same network with --params, and this file with --symbol",
    ),
    Kind.optimizer_states: Description(
        "the states of an MXNet optimizer (trainer.save_states), not the parameters of a network",
        "the parameters are in the file that net.save_parameters wrote, usually .params: pass that",
    ),
    Kind.estimator: Description(
        "a pickled GluonCV estimator, which contains parameters among other objects",
        "where it was trained, run ImageClassificationEstimator.load({literal}).net.save_parameters"
        "('net.params'), and convert net.params",
    ),
    Kind.predictor: Description(
        "a pickled AutoGluon predictor, which contains parameters among other objects",
        "where it was trained, run ImagePredictor.load({literal})._classifier.net.save_parameters"
        "('net.params'), and convert net.params",
    ),
    Kind.mxnet_pickle: Description(
        "a pickle of MXNet arrays: the states of an optimizer, or pickled parameters",
        "where it was written, save the parameters with mx.nd.save('net.params', arrays_by_name), "
        "and convert net.params",
    ),
    Kind.numpy_pickle: Description(
        "a pickle of numpy arrays, which could run code when it is loaded",
        "if you trust it, run python -c {program}, and convert weights.npz",
        PICKLED,
    ),
    Kind.pickle: Description(
        "a pickle of Python objects, not a file of parameters",
        "where it was written, save the parameters with net.save_parameters('net.params'), "
        "and convert net.params",
    ),
    Kind.npy: Description(
        "a single numpy array without a name (.npy)",
        "save all arrays by their names with numpy.savez('weights.npz', **arrays), and convert weights.npz",
    ),
    Kind.npy_objects: Description(
        "a .npy of pickled Python objects, which could run code when it is loaded",
        "if it is a dictionary of arrays that you trust, run python -c {program}, and convert weights.npz",
        OBJECTS,
    ),
    Kind.other_zip: Description(
        "a zip file without parameters", "unpack it, and run gluon2torch inspect on the files in it"
    ),
    Kind.damaged_zip: Description("a damaged or incomplete zip file", "copy or download it again"),
    Kind.lfs_pointer: Description("a Git LFS pointer, not the file itself", "git lfs pull fetches it"),
    Kind.html: Description("a web page, not the file itself", DOWNLOAD),
    Kind.storage_error: Description("the error message of a storage server, not the file itself", DOWNLOAD),
    Kind.xml: Description("an XML document, not a file of parameters", DOWNLOAD),
    Kind.json: Description(
        "a JSON document, not a file of parameters",
        "pass the .params that net.save_parameters or net.export wrote",
    ),
    Kind.onnx: Description("an ONNX model", ANOTHER_NETWORK),
    Kind.hdf5: Description("an HDF5 file, as Keras writes", ANOTHER_NETWORK),
    Kind.djl: Description(
        "parameters in DJL's own format, not in MXNet's",
        "DJL keeps the MXNet files of its model zoo in ~/.djl.ai/cache: "
        "pass the .params next to the -symbol.json there",
    ),
    Kind.tflite: Description("a TensorFlow Lite model", ANOTHER_NETWORK),
    Kind.empty: Description("the file is empty", "copy or download it again"),
    Kind.unknown: Description(
        "not a .safetensors, .pth or .params file",
        "pass the .params that net.save_parameters or net.export wrote",
    ),
}
