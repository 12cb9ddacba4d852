"""The models and scenes of the benchmarks: seeded, in eval mode, the same in every process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn


class PixelwiseNet(nn.Module):
    """A spectral network applied to every pixel by itself, then the mean over the pixels."""

    def __init__(self, bands: int, outputs: int = 4) -> None:
        super().__init__()
        self.spectral = nn.Sequential(
            nn.Conv2d(bands, 64, 1), nn.ReLU(),
            nn.Conv2d(64, 32, 1), nn.ReLU(),
            nn.Conv2d(32, outputs, 1),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.spectral(images).mean(dim=(2, 3))


class PatchNet(nn.Module):
    """A 3-D CNN on small patches, as they are used to classify one pixel by its surroundings."""

    def __init__(self, bands: int, size: int, outputs: int = 9) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(1, 8, (7, 3, 3), stride=(2, 1, 1)), nn.ReLU(),
            nn.Conv3d(8, 16, (5, 3, 3), stride=(2, 1, 1)), nn.ReLU(),
            nn.Conv3d(16, 32, (3, 3, 3), stride=(2, 1, 1)), nn.ReLU(),
        )  # fmt: skip
        with torch.no_grad():
            width = self.features(torch.zeros(1, 1, bands, size, size)).numel()
        self.classify = nn.Sequential(nn.Flatten(), nn.Linear(width, outputs))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(patches.unsqueeze(1)))


def convolutional_net(bands: int, outputs: int = 4) -> nn.Module:
    """A 2-D CNN of three blocks, the first 3 x 3 over all bands."""

    def block(before: int, after: int, pool: nn.Module) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), pool]

    return nn.Sequential(
        *block(bands, 32, nn.MaxPool2d(2)),
        *block(32, 64, nn.MaxPool2d(2)),
        *block(64, 128, nn.AdaptiveAvgPool2d(1)),
        nn.Flatten(), nn.Linear(128, outputs),
    )  # fmt: skip


def give_statistics(norm: nn.modules.batchnorm._BatchNorm) -> None:
    """Statistics other than 0 and 1, as after training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 1.5)


@dataclass(frozen=True)
class Scene:
    """What a workload runs on: `count` images of `shape` (bands, height, width) and the model for them."""

    shape: tuple[int, int, int]
    count: int
    build: Callable[[], nn.Module]

    def model(self) -> nn.Module:
        """Seeded weights; batch norm gets statistics other than 0 and 1, as after training."""
        torch.manual_seed(20)
        model = self.build()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                give_statistics(layer)
        return model.eval()

    def images(self, draw: int = 0) -> list[torch.Tensor]:
        """Reflectances between 0 and 1: a smooth spectrum per image, with structure between the pixels."""
        bands, height, width = self.shape
        generator = torch.Generator().manual_seed(21 + draw)
        phase = torch.linspace(0.0, 9.0, bands).view(bands, 1, 1)
        texture = torch.rand(self.count, 1, height, width, generator=generator)
        noise = torch.rand(self.count, bands, height, width, generator=generator)
        return list(0.4 + 0.3 * torch.sin(phase + 3.0 * texture) + 0.2 * noise)

    def tiny(self) -> Scene:
        """The same with so few pixels and images that a workload takes no time worth measuring."""
        bands, height, width = self.shape
        return replace(self, shape=(bands, min(height, 60), min(width, 60)), count=min(self.count, 2))

    def wavelengths(self) -> list[float]:
        """Nanometres, evenly spaced over the range of the HYPERVIEW camera."""
        return [462.0 + 476.0 * band / (self.shape[0] - 1) for band in range(self.shape[0])]


SCENES = {
    "CNN 224": Scene((150, 224, 224), 1, lambda: convolutional_net(150)),
    "pixelwise 224": Scene((150, 224, 224), 1, lambda: PixelwiseNet(150)),
    "64 patches": Scene((200, 11, 11), 64, lambda: PatchNet(200, 11)),
}


def scene_of(name: str, tiny: bool = False) -> Scene:
    """The scene of a name; a tiny one to see that a workload runs."""
    return SCENES[name].tiny() if tiny else SCENES[name]
