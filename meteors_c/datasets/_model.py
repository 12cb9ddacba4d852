"""The small network of the demo: the four targets of a field from its reflectance."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FieldRegressor(nn.Module):
    """A convolutional network for fields of any size.

    A 1 x 1 convolution takes the bands to `features` channels, a 3 x 3 convolution looks at the neighbourhood, a last
    1 x 1 convolution gives each pixel its own estimate of every target and a weight between 0 and 1. The output is the
    weighted mean over the pixels. The network learns small weights for pixels outside the field, which are zero in
    every band.

    Parameters
    ----------
    bands, features, targets : int
        Sizes of the input, of the two hidden layers, and of the output.
    """

    def __init__(self, bands: int = 150, features: int = 32, targets: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(bands, features, 1)
        self.body = nn.Conv2d(features, features, 3, padding=1)
        self.head = nn.Conv2d(features, targets + 1, 1)
        self.activation = nn.SiLU()

    def forward(self, image: Tensor) -> Tensor:
        """Targets of a batch of fields.

        Parameters
        ----------
        image : Tensor, (n, bands, rows, columns)
            10000 times reflectance; 0 in every band outside the field.

        Returns
        -------
        Tensor, (n, targets)
        """
        features = self.activation(self.stem(image))
        features = self.activation(self.body(features))
        pixels = self.head(features)
        estimate, weight = pixels[:, :-1], torch.sigmoid(pixels[:, -1:])
        return (estimate * weight).mean(dim=(2, 3)) / weight.mean(dim=(2, 3))
