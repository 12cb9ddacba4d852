"""Hyperspectral networks of the literature, written out: HybridSN, SSRN, a 1-D CNN and a GRU on each spectrum."""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 8


class HybridSN(nn.Module):
    """3-D convolutions over bands and pixels, then a 2-D one over what they found in all bands (Roy et al., 2020)."""

    def __init__(self, bands: int, size: int) -> None:
        super().__init__()
        self.spectral = nn.Sequential(
            nn.Conv3d(1, 8, (7, 3, 3)), nn.ReLU(),
            nn.Conv3d(8, 16, (5, 3, 3)), nn.ReLU(),
            nn.Conv3d(16, 32, (3, 3, 3)), nn.ReLU(),
        )  # fmt: skip
        self.spatial = nn.Sequential(nn.Conv2d(32 * (bands - 12), 64, 3), nn.ReLU())
        self.classify = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * (size - 8) ** 2, 256), nn.ReLU(), nn.Dropout(0.4),
            nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, CLASSES),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.spatial(self.spectral(images.unsqueeze(1)).flatten(1, 2)))


class Residual(nn.Module):
    """Two convolutions with batch norm, added to what they started from."""

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        padding = tuple(width // 2 for width in kernel)
        self.first = nn.Sequential(nn.Conv3d(channels, channels, kernel, padding=padding), nn.BatchNorm3d(channels))
        self.second = nn.Sequential(nn.Conv3d(channels, channels, kernel, padding=padding), nn.BatchNorm3d(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(features + self.second(torch.relu(self.first(features))))


class SSRN(nn.Module):
    """Residual blocks along the bands, then residual blocks across the pixels (Zhong et al., 2018)."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        left = (bands - 7) // 2 + 1
        self.spectral = nn.Sequential(
            nn.Conv3d(1, 24, (7, 1, 1), stride=(2, 1, 1)), nn.BatchNorm3d(24), nn.ReLU(),
            Residual(24, (7, 1, 1)), Residual(24, (7, 1, 1)),
            nn.Conv3d(24, 128, (left, 1, 1)), nn.BatchNorm3d(128), nn.ReLU(),
        )  # fmt: skip
        self.spatial = nn.Sequential(
            nn.Conv3d(1, 24, (128, 3, 3)), nn.BatchNorm3d(24), nn.ReLU(),
            Residual(24, (1, 3, 3)), Residual(24, (1, 3, 3)),
        )  # fmt: skip
        self.classify = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.spatial(self.spectral(images.unsqueeze(1)).transpose(1, 2)))


def spectra(images: torch.Tensor) -> torch.Tensor:
    """The spectrum of every pixel, (images * pixels, bands)."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


class SpectralCNN(nn.Module):
    """A 1-D CNN along the bands of every pixel by itself, then the mean over the pixels."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 16, 7, padding=3), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 5, padding=2), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2),
            nn.Flatten(), nn.Linear(32 * (bands // 4), 32), nn.ReLU(), nn.Linear(32, CLASSES),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(spectra(images).unsqueeze(1)).view(len(images), -1, CLASSES).mean(dim=1)


class SpectralGRU(nn.Module):
    """A recurrent network that reads the bands of every pixel one after the other, then the mean over the pixels."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.read = nn.GRU(1, hidden, batch_first=True)
        self.classify = nn.Linear(hidden, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states, _ = self.read(spectra(images).unsqueeze(2))
        return self.classify(states[:, -1]).view(len(images), -1, CLASSES).mean(dim=1)
