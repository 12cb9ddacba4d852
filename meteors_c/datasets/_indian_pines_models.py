"""Three small networks for the Indian Pines scene: patches, pixels, and a U-Net over groups of classes.

All take the values of the scene as they are. Weights come from ``tools/train_indian_pines.py`` and
``tools/train_unet.py``, which record the accuracy on held-out pixels beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from meteors_c.datasets.indian_pines import GROUPS

__all__ = [
    "PatchClassifier",
    "Segmenter",
    "UNet",
    "indian_pines_classifier",
    "indian_pines_segmenter",
    "indian_pines_unet",
]

Network = TypeVar("Network", bound=nn.Module)

_HERE = Path(__file__).parent


class Standardise(nn.Module):
    """Each band less its mean, over its unit: ``(x - mean) / unit``.

    Parameters
    ----------
    bands : int
        Number of bands, the second axis of the input.
    """

    mean: Tensor
    unit: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bands, 1, 1))
        self.register_buffer("unit", torch.ones(bands, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, columns) to the same shape."""
        return (x - self.mean) / self.unit


class PatchClassifier(nn.Module):
    """Class of the pixel in the middle of a patch, by convolutions over bands, rows and columns.

    They go over the bands in strides of 3, 2 and 2: the last of 200 bands fills no window and counts for nothing.

    Parameters
    ----------
    classes : int
        Number of classes.
    bands, size : int
        Bands of a patch; its rows and columns.
    """

    def __init__(self, classes: int = 16, bands: int = 200, size: int = 9) -> None:
        super().__init__()
        self.size = size
        self.standardise = Standardise(bands)
        self.first = nn.Conv3d(1, 8, (7, 3, 3), stride=(3, 1, 1))
        self.second = nn.Conv3d(8, 16, (5, 3, 3), stride=(2, 1, 1))
        self.third = nn.Conv3d(16, 24, (3, 3, 3), stride=(2, 1, 1))
        depth = (((bands - 7) // 3 + 1 - 5) // 2 + 1 - 3) // 2 + 1
        self.drop = nn.Dropout(0.4)
        self.head = nn.Linear(24 * depth, classes)

    def forward(self, patches: Tensor) -> Tensor:
        """(n, bands, size, size), values of the scene, to logits (n, classes)."""
        features = self.standardise(patches)[:, None]
        features = torch.relu(self.first(features))
        features = torch.relu(self.second(features))
        features = torch.relu(self.third(features))
        return self.head(self.drop(features.mean(dim=(3, 4)).flatten(1)))


class Segmenter(nn.Module):
    """Logits for each pixel of a scene of any size, from the 3 x 3 pixels about it.

    Parameters
    ----------
    classes : int
        Number of classes.
    bands, features : int
        Bands of the image, size of the hidden layers.
    """

    def __init__(self, classes: int = 16, bands: int = 200, features: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(bands, features, 1)
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 1)
        self.head = nn.Conv2d(features, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(n, bands, rows, columns), values of the scene, to logits (n, classes, rows, columns)."""
        features = torch.relu(self.stem(image))
        features = torch.relu(self.first(features))
        features = torch.relu(self.second(features))
        return self.head(features)


def _pair(channels: int, features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, features, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(features, features, 3, padding=1),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """A U-Net [1]_ of two levels behind a 1 x 1 convolution over the bands.

    Parameters
    ----------
    classes : int
        Number of classes.
    bands : int
        Bands of the image.
    features : tuple of int
        Size of the hidden layers on the three scales.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image segmentation,
           MICCAI (2015).
    """

    def __init__(
        self, classes: int = len(GROUPS), bands: int = 200, features: tuple[int, int, int] = (24, 32, 40)
    ) -> None:
        super().__init__()
        fine, middle, coarse = features
        self.stem = nn.Conv2d(bands, fine, 1)
        self.fine = _pair(fine, fine)
        self.middle = _pair(fine, middle)
        self.coarse = _pair(middle, coarse)
        self.up_middle = _pair(coarse + middle, middle)
        self.up_fine = _pair(middle + fine, fine)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout2d(0.2)
        self.head = nn.Conv2d(fine, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(n, bands, rows, columns), values of the scene, to logits (n, classes, rows, columns).

        Rows and columns may be any numbers from 4 on.
        """
        fine = self.fine(torch.relu(self.stem(image)))
        middle = self.middle(self.pool(fine))
        features = self.coarse(self.pool(middle))
        features = self.up_middle(torch.cat([_resize(features, middle), middle], dim=1))
        features = self.up_fine(torch.cat([_resize(features, fine), fine], dim=1))
        return self.head(self.drop(features))


def _resize(features: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(features, size=like.shape[-2:], mode="nearest")


def indian_pines_classifier() -> PatchClassifier:
    """The trained 3-D classifier of patches.

    Returns
    -------
    PatchClassifier
        In eval mode. Takes (n, 200, 9, 9), gives logits (n, 16): output k is class k + 1, there is none for
        ``"unlabelled"``.

    Examples
    --------
    >>> scene = datasets.load_indian_pines()
    >>> indian_pines_classifier()(scene.hsi.image[None, :, 20:29, 20:29]).shape
    torch.Size([1, 16])
    """
    return _load(PatchClassifier(), "indian_pines_classifier.npz")


def indian_pines_segmenter() -> Segmenter:
    """The trained fully convolutional network.

    Returns
    -------
    Segmenter
        In eval mode. Takes (n, 200, rows, columns), gives logits (n, 16, rows, columns): output k is class k + 1.

    Examples
    --------
    >>> indian_pines_segmenter()(datasets.load_indian_pines().hsi.image[None]).shape
    torch.Size([1, 16, 145, 145])
    """
    return _load(Segmenter(), "indian_pines_segmenter.npz")


def indian_pines_unet() -> UNet:
    """The trained U-Net.

    Returns
    -------
    UNet
        In eval mode. Takes (n, 200, rows, columns), gives logits (n, 5, rows, columns), in the order of
        :data:`meteors_c.datasets.indian_pines.GROUPS`.

    Examples
    --------
    >>> indian_pines_unet()(datasets.load_indian_pines().hsi.image[None]).shape
    torch.Size([1, 5, 145, 145])
    """
    return _load(UNet(), "indian_pines_unet.npz")


def _load(model: Network, name: str) -> Network:
    from meteors_c.datasets import _open

    with _open(_HERE / name) as archive:
        model.load_state_dict({key: torch.from_numpy(archive[key]).float() for key in archive})
    return model.eval()
