"""Where GluonCV's detectors, segmentation and pose networks, and users, put the parts of a known network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Where a network's parts are in another network.

    Attributes:
        places: {part: place in the other network}; "" for the whole.
        description: the arrangement in words, "" if the parts are in their own places.
        has_own_strides: whether the other network runs the parts with their own strides.
    """

    places: dict[str, str]
    description: str = ""
    has_own_strides: bool = True

    def rename(self, structural: str) -> str | None:
        """Return a parameter's name in the other network, None if its part is not there."""
        for part, place in self.places.items():
            if not part or structural.startswith(f"{part}."):
                rest = structural[len(part) + 1 :] if part else structural
                return f"{place}.{rest}" if place else rest
        return None


WHOLE = Arrangement(places={"": ""})
ARRANGEMENTS = (
    WHOLE,
    Arrangement(places={"features": ""}, description="`features`"),
    # Source: gluoncv/model_zoo/simple_pose/*.py, center_net/deconv_resnet.py, dmlc/gluon-cv 56777561.
    Arrangement(
        places={
            "conv1": "0",
            "bn1": "1",
            "layer1": "4",
            "layer2": "5",
            "layer3": "6",
            "layer4": "7",
        },
        description="its layers as a list",
    ),
    # Source: gluoncv/model_zoo/rcnn/faster_rcnn/predefined_models.py.
    Arrangement(
        places={
            "conv1": "features.0",
            "bn1": "features.1",
            "layer1": "features.4",
            "layer2": "features.5",
            "layer3": "features.6",
            "layer4": "top_features.0",
        },
        description="`features` and `top_features` of an R-CNN",
    ),
    # Source: gluoncv/model_zoo/ssd/resnet_v1b_ssd.py.
    Arrangement(
        places={
            "conv1": "features.stage1.0",
            "bn1": "features.stage1.1",
            "layer1": "features.stage1.4",
            "layer2": "features.stage1.5",
            "layer3": "features.stage2.0",
            "layer4": "features.stage2.1",
        },
        description="`features` of an SSD",
        has_own_strides=False,
    ),
)
