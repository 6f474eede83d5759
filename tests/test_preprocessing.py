"""Preprocessing equals timm's bit for bit; tests/parity compares with GluonCV's own."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image

from resnext_torch import (
    CONFIGS,
    create_model,
    create_transform,
    gluon_transform,
    list_models,
    resolve_data_config,
    resolve_model_data_config,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# (height, width) in pixels: odd, smaller than the crop, short side at the limit, thin
SIZES = [(300, 401), (97, 131), (256, 256), (224, 224), (255, 257), (1000, 259), (31, 640)]
TIMM: Any = timm.data  # partially typed
CIFAR = "gluon_cifar_resnext29_32x4d"


def pixels(height: int, width: int) -> NDArray[np.uint8]:
    """Return an image with edges: one half noise, the other plain."""
    image_array = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image_array[:, : width // 2] = (250, 10, 120)
    return image_array


@pytest.mark.parametrize("size", SIZES)
def test_transform_equals_timms_bit_for_bit(size: tuple[int, int]) -> None:
    image = Image.fromarray(pixels(*size))
    with torch.device("meta"):
        model = create_model("gluon_resnext101_32x4d")
        theirs = timm.create_model("resnext101_32x4d.gluon_in1k")
    wanted = TIMM.create_transform(**TIMM.resolve_data_config({}, model=theirs))
    result = create_transform(**resolve_data_config(model))(image)
    assert result.shape == (3, 224, 224)
    assert torch.equal(result, wanted(image))
    config = resolve_data_config(model)
    config["interpolation"] = "bilinear"
    other = create_transform(**config)
    assert not torch.equal(other(image), wanted(image)) or min(size) == 256


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("gluon_resnext50_32x4d", "resnext50_32x4d.gluon_in1k"),
        ("gluon_seresnext101_64x4d", "seresnext101_64x4d.gluon_in1k"),
        ("gluon_resnet50_v1d", "resnet50d.gluon_in1k"),
        ("gluon_senet154", "senet154.gluon_in1k"),
    ],
)
def test_data_config_equals_timms(ours: str, theirs: str) -> None:
    with torch.device("meta"):
        expected = TIMM.resolve_data_config({}, model=timm.create_model(theirs))
    assert resolve_data_config(ours) == expected


def test_network_with_other_channels_has_no_image_transform() -> None:
    with torch.device("meta"):
        config = resolve_data_config(create_model("gluon_resnet18_v1b", in_chans=1))
    assert config["input_size"] == (1, 224, 224)
    with pytest.raises(ValueError, match=r"expected \(3, n, n\), found \(1, 224, 224\)"):
        create_transform(**config)


def test_returned_config_is_a_copy() -> None:
    resolve_data_config()["crop_pct"] = 0.5
    resolve_data_config(CIFAR)["crop_pct"] = 0.5
    assert (resolve_data_config()["crop_pct"], resolve_data_config(CIFAR)["crop_pct"]) == (0.875, 1.0)


def test_data_config_accepts_name_model_backbone_and_config() -> None:
    with torch.device("meta"):
        model, backbone = create_model(CIFAR), create_model(CIFAR, features_only=True)
    config = resolve_data_config(CIFAR)
    assert config["input_size"] == (3, 32, 32)
    assert config["crop_pct"] == 1.0
    assert (config["mean"], config["std"]) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert resolve_data_config(model) == resolve_data_config(backbone) == config
    assert resolve_data_config(CONFIGS[CIFAR]) == config
    assert resolve_data_config() != config
    with pytest.raises(KeyError, match="vgg"):
        resolve_data_config("vgg")


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("recipe", ["bicubic", "gluon"])
def test_transform_gives_every_network_its_input_size(name: str, recipe: Any) -> None:  # noqa: ANN401 - a literal
    config = resolve_data_config(name)
    image = Image.fromarray(pixels(40, 37))
    assert create_transform(recipe, **config)(image).shape == config["input_size"]


@pytest.mark.parametrize(
    "make", [create_transform, lambda: create_transform("gluon"), gluon_transform, lambda: None]
)
def test_transform_can_be_pickled(make: Callable[[], Any]) -> None:
    image, transform = Image.fromarray(pixels(40, 37)), make() or gluon_transform(CIFAR)
    assert torch.equal(pickle.loads(pickle.dumps(transform))(image), transform(image))  # noqa: S301 - our own


def test_cifar_image_is_only_normalised() -> None:
    image_array = pixels(32, 32)
    plain = torch.from_numpy(image_array).permute(2, 0, 1) / 255
    config = resolve_data_config(CIFAR)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    assert torch.equal(gluon_transform(CIFAR)(image_array), (plain - mean) / std)
    assert torch.equal(create_transform(**config)(Image.fromarray(image_array)), (plain - mean) / std)


def test_gluon_transform_accepts_arrays_and_images() -> None:
    image_array = pixels(300, 401)
    output = gluon_transform()(image_array)
    assert (output.shape, output.dtype) == ((3, 224, 224), torch.float32)
    assert torch.equal(output, gluon_transform()(Image.fromarray(image_array)))
    assert torch.equal(output, create_transform("gluon")(image_array))
    assert not torch.equal(output, create_transform()(Image.fromarray(image_array)))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (pixels(9, 9).astype(np.float32), r"\(9, 9, 3\) in float32"),
        (pixels(9, 9)[..., 0], r"\(9, 9\) in uint8"),
        (Image.new("RGBA", (9, 9)), r"\(9, 9, 4\) in uint8"),
    ],
)
def test_non_rgb_image_is_refused(image: Any, found: str) -> None:  # noqa: ANN401 - all that is wrong
    with pytest.raises(ValueError, match=rf"\(h, w, 3\) in uint8; found {found}"):
        gluon_transform()(image)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "area"}, "recipe: expected 'bicubic' or 'gluon', found 'area'"),
        ({"crop_mode": "border"}, "crop_mode: expected 'center', found 'border'"),
        ({"input_size": (1, 224, 224)}, r"expected \(3, n, n\), found \(1, 224, 224\)"),
        ({"input_size": (3, 224, 256)}, r"expected \(3, n, n\), found \(3, 224, 256\)"),
        ({"interpolation": "sharp"}, "'sharp' is not a valid InterpolationMode"),
    ],
)
def test_unsupported_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_transform(**wrong)


def test_data_config_does_not_import_torch() -> None:
    program = (
        "import sys; from resnext_torch import resolve_data_config as r; r('gluon_resnext50_32x4d');"
        "print({'torch', 'torchvision', 'cv2'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


def test_recorded_normalization_takes_the_place_of_the_default(tmp_path: Path) -> None:
    weights, other = tmp_path / "net-12345678.safetensors", tmp_path / "other.safetensors"
    manifest = {
        "artifact": {"file": weights.name, "sha256": "12345678" + "0" * 56},
        "source": {"preprocessing": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}},
    }
    weights.with_suffix(".json").write_text(json.dumps(manifest))
    own = resolve_data_config("gluon_resnet18_v1b", weights)
    assert (own["mean"], own["std"]) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert own["input_size"] == (3, 224, 224)
    assert resolve_data_config("gluon_resnet18_v1b", other) == resolve_data_config("gluon_resnet18_v1b")


@pytest.mark.parametrize("recorded", [{"mean": [0.1, 0.2, 0.3]}, {"mean": 0, "std": None}, [], "x"])
def test_malformed_normalization_is_ignored(tmp_path: Path, recorded: object) -> None:
    weights = tmp_path / "net-12345678.safetensors"
    artifact = {"file": weights.name, "sha256": "12345678" + "0" * 56}
    manifest = {"artifact": artifact, "source": {"preprocessing": recorded}}
    weights.with_suffix(".json").write_text(json.dumps(manifest))
    assert resolve_data_config(weights=weights) == resolve_data_config()


ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"img_size": 288, "crop_pct": 1.0},
    {"input_size": (3, 160, 160), "interpolation": "bilinear"},
    {"mean": (0.5,), "std": [0.1, 0.2, 0.3], "crop_mode": "border"},
    {"in_chans": 1},
    {"in_chans": 1, "img_size": 64},
    {"chans": 3, "mean": None, "other": 1},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_settings_of_the_caller_are_resolved_as_in_timm(arguments: dict[str, Any]) -> None:
    with torch.device("meta"):
        ours, theirs = create_model("resnet50_v1d"), timm.create_model("resnet50d.gluon_in1k")
    expected = TIMM.resolve_data_config(arguments, model=theirs)
    assert resolve_data_config(arguments, model=ours) == expected
    assert resolve_data_config(arguments, pretrained_cfg=ours.pretrained_cfg) == expected
    assert TIMM.resolve_data_config(arguments, model=ours) == expected
    assert resolve_model_data_config(ours, arguments) == TIMM.resolve_model_data_config(theirs, arguments)
    assert create_model("resnet50_v1d").pretrained_cfg["input_size"] == (3, 224, 224)


@pytest.mark.parametrize("test_size", [False, True])
def test_test_size_is_resolved_as_in_timm(*, test_size: bool, caplog: pytest.LogCaptureFixture) -> None:
    described = {"input_size": (3, 160, 160), "test_input_size": (3, 224, 224), "test_crop_pct": 0.95}
    options: dict[str, Any] = {"pretrained_cfg": described, "use_test_size": test_size}
    caplog.set_level("INFO", logger="resnext_torch")
    result = resolve_data_config({}, **options, verbose=True)
    assert result == TIMM.resolve_data_config({}, **options)
    assert f"crop_pct: {result['crop_pct']}" in caplog.messages


def test_wrong_number_of_means_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^mean: expected 1 value or 3, found 2$"):
        resolve_data_config({"mean": (0.5, 0.5)})


TRAINING: list[dict[str, Any]] = [
    {},
    {"hflip": 0.0, "vflip": 0.3, "color_jitter": None},
    {"scale": (0.5, 1.0), "ratio": (0.9, 1.1), "color_jitter": (0.1, 0.2, 0.3, 0.05)},
    {"re_prob": 0.25, "auto_augment": None},
    {"no_aug": True},
]
SAME = {"RandomResizedCropAndInterpolation": "RandomResizedCrop", "MaybeToTensor": "ToTensor"}
KEYS = ("size", "scale", "ratio", "p", "brightness", "contrast", "saturation", "hue", "interpolation")


def steps(transform: Any) -> list[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - ours or timm's
    """Return the names and settings of the steps, of timm's with the names of torchvision's."""
    result = []
    for step in transform.transforms:
        name = type(step).__name__
        settings = {
            key: value for key, value in vars(step).items() if key in KEYS and name != "RandomErasing"
        }
        settings = {key: value.value if hasattr(value, "value") else value for key, value in settings.items()}
        if name == "RandomErasing":
            settings = {"p": getattr(step, "p", None) or step.probability}
        if name not in {"CenterCrop", "Normalize"}:  # a crop to the size that the image has
            result.append((SAME.get(name, name), {key: norm(value) for key, value in settings.items()}))
    return result


def norm(value: Any) -> Any:  # noqa: ANN401 - a setting
    return [*value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("arguments", TRAINING)
def test_training_transform_has_the_steps_of_timm(arguments: dict[str, Any]) -> None:
    config = resolve_data_config("gluon_resnet18_v1b")
    ours: Any = create_transform(**config, is_training=True, **arguments)
    theirs = TIMM.create_transform(**config, is_training=True, **arguments)
    assert steps(ours) == steps(theirs)
    image = Image.fromarray(pixels(300, 401))
    assert ours(image).shape == theirs(image).shape == (3, 224, 224)
    if "no_aug" in arguments:
        assert torch.equal(ours(image), theirs(image))
    else:
        assert not torch.equal(ours(image), ours(image))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"auto_augment": "rand-m9"},
            r"^auto_augment: not supported; timm\.data\.create_transform\(\) takes",
        ),
        ({"recipe": "gluon"}, "^recipe: 'gluon' is for evaluation"),
    ],
)
def test_augmentation_that_only_timm_has_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_transform(**{"is_training": True, **arguments})


@pytest.mark.parametrize("size", [64, (64, 64), (3, 64, 64)])
def test_size_is_a_number_or_a_shape(size: Any) -> None:  # noqa: ANN401 - of several types
    assert create_transform(input_size=size)(Image.fromarray(pixels(80, 90))).shape == (3, 64, 64)
