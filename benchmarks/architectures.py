"""Architectures of `transformers` and `monai`, built from their configurations, beside those of `networks`.

Nothing is downloaded: weights are seeded, the models are in eval mode, and what training would move is moved: weights
pass on the size of what they get, statistics of batch norm, biases and scales of residual branches are not 0 and 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .models import Scene, give_statistics
from .networks import CLASSES, SSRN, HybridSN, SpectralCNN, SpectralGRU

BANDS = 64


class ClassMeans(nn.Module):
    """A segmentation network, and the mean of its logits over the pixels: one number for each class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.network(images)
        return getattr(found, "logits", found).mean(dim=(2, 3))


def transformers(name: str, task: str = "ImageClassification", **settings: Any) -> Callable[[], nn.Module]:
    """A network of `transformers` for a task, from its configuration."""

    def build() -> nn.Module:
        library: Any = importlib.import_module("transformers")
        config = getattr(library, f"{name}Config")(num_channels=BANDS, num_labels=CLASSES, **settings)
        network = getattr(library, f"{name}For{task}")(config)
        return ClassMeans(network) if task == "SemanticSegmentation" else network

    return build


def monai(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network: nn.Module = getattr(importlib.import_module("monai.networks.nets"), name)(
            spatial_dims=2, in_channels=BANDS, **settings
        )
        return ClassMeans(network) if "UNet" in name else network

    return build


def unet(*channels: int, **settings: Any) -> Callable[[], nn.Module]:
    """A U-Net that halves the image between one width and the next."""
    strides = (2,) * (len(channels) - 1)
    return monai("UNet", out_channels=CLASSES, channels=channels, strides=strides, **settings)


def senet(layers: tuple[int, ...], **settings: Any) -> Callable[[], nn.Module]:
    """An SE-ResNet, as `monai` sets up its own SEResNet50."""
    return monai(
        "SENet", block="se_resnet_bottleneck", layers=layers, groups=1, reduction=16, dropout_prob=None,
        downsample_kernel_size=1, input_3x3=False, num_classes=CLASSES, **settings,
    )  # fmt: skip


def as_trained(network: nn.Module) -> nn.Module:
    """Give weights, biases and statistics of batch norm values as after training, where those they begin with differ.

    Networks of `transformers` begin with weights so small that a change of the input is lost in rounding on its way.
    """
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                give_statistics(layer)
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.add_(torch.empty_like(parameter).uniform_(-0.05, 0.05))
    return network


def scene(size: int, build: Callable[[], nn.Module]) -> Scene:
    return Scene((BANDS, size, size), 1, lambda: as_trained(build()))


RESNET = {"layer_type": "basic", "depths": [2, 2, 2, 2]}

SMALL = {
    "ResNet": scene(96, transformers("ResNet", embedding_size=32, hidden_sizes=[32, 64, 128, 256], **RESNET)),
    "ConvNeXt": scene(
        96,
        transformers("ConvNext", depths=[1, 1, 2, 1], hidden_sizes=[32, 64, 128, 256], layer_scale_init_value=0.5),
    ),
    "ViT": scene(
        64,
        transformers(
            "ViT", image_size=64, patch_size=8, hidden_size=96, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=384,
        ),
    ),
    "Swin": scene(
        96, transformers("Swin", image_size=96, embed_dim=48, depths=[2, 2], num_heads=[3, 6], window_size=6)
    ),
    "SegFormer": scene(
        96,
        transformers(
            "Segformer", "SemanticSegmentation", hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 4, 8], decoder_hidden_size=64,
        ),
    ),
    "MobileNetV2": scene(96, transformers("MobileNetV2", image_size=96, depth_multiplier=0.5)),
    "DenseNet": scene(
        64, monai("DenseNet", out_channels=CLASSES, init_features=32, growth_rate=16, block_config=(2, 4, 4, 2))
    ),
    "SENet": scene(64, senet((1, 1, 1, 1), inplanes=32)),
    "U-Net, batch norm": scene(64, unet(16, 32, 64, norm="batch")),
    "U-Net, residual, instance norm": scene(64, unet(16, 32, 64, norm="instance", num_res_units=2)),
    "HybridSN": scene(24, lambda: HybridSN(BANDS, 24)),
    "SSRN": scene(24, lambda: SSRN(BANDS)),
    "1-D CNN on each pixel": scene(32, lambda: SpectralCNN(BANDS)),
    "GRU over the bands": scene(24, SpectralGRU),
}  # fmt: skip

LARGE = {
    "ResNet-18": scene(224, transformers("ResNet", hidden_sizes=[64, 128, 256, 512], **RESNET)),
    "MobileNetV2": scene(224, transformers("MobileNetV2")),
    "DenseNet-121": scene(224, monai("DenseNet121", out_channels=CLASSES)),
    "U-Net, batch norm": scene(224, monai("BasicUNet", out_channels=CLASSES, norm="batch")),
    "SENet": scene(224, senet((3, 4, 6, 3), inplanes=64)),
    "SegFormer": scene(224, transformers("Segformer")),
    "Swin": scene(224, transformers("Swin")),
    "ConvNeXt": scene(224, transformers("ConvNext", layer_scale_init_value=0.5)),
}
