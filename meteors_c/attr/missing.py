"""What a feature that is left out takes: the choice is part of the question, so results state it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from meteors_c.attr._arguments import NUMBER, checked_baseline, one_for_each_image
from meteors_c.hsi import HSI
from meteors_c.utils import floating_dtype, tensor_from_array

__all__ = ["Background", "Blur", "SegmentMean"]


@dataclass(frozen=True)
class SegmentMean:
    """A pixel of a left out feature takes the mean spectrum of its feature.

    The mean of each band is over the pixels of the feature where the image's mask is True; elsewhere pixels stay 0.
    Superpixels lose their texture and keep their colour; superbands lose what is spatial about them.

    Examples
    --------
    >>> result = KernelShap(model).get_spatial_attributes(hsi, mask, target=0, baseline=SegmentMean())
    >>> result.effects.missing
    'the mean of their feature'
    """

    def __str__(self) -> str:
        return "the mean of their feature"

    def values(self, hsi: HSI, ids: np.ndarray) -> torch.Tensor:
        """Return the baseline of an image, of its shape; `ids` are the features of its values, of its shape too.

        Examples
        --------
        >>> ids = mask.expand(hsi.image.shape).numpy()
        >>> means = SegmentMean().values(hsi, ids)
        >>> bool((means[:, :12, :12] == means[:, :1, :1]).all())  # the first superpixel
        True
        """
        image = hsi.image.detach().cpu().to(floating_dtype(hsi.image))
        axis, bands = hsi.spectral_axis, image.shape[hsi.spectral_axis]
        numbered = torch.from_numpy(ids.astype(np.int64)) + 1  # 0: in no feature
        band = torch.arange(bands).reshape([-1 if a == axis else 1 for a in range(3)])
        cell = (numbered * bands + band).reshape(-1)
        used = hsi.binary_mask.cpu()
        cells = (int(numbered.max()) + 1) * bands
        sums = torch.zeros(cells, dtype=torch.float64)
        sums.index_add_(0, cell, torch.where(used, image, 0).double().reshape(-1))
        counts = torch.zeros(cells, dtype=torch.float64).index_add_(
            0, cell, used.expand(image.shape).double().reshape(-1)
        )
        means = (sums / counts.clamp(min=1))[cell].reshape(image.shape).to(image.dtype)
        return torch.where(used, means, 0)


@dataclass(frozen=True)
class Blur:
    """A pixel of a left out feature takes the image blurred by a Gaussian along both spatial axes.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels, positive. Pixels outside of the image's mask have no part in it and stay 0.

    Examples
    --------
    >>> quarters = (mask - 1) // 4
    >>> result = KernelShap(model).get_spatial_attributes(hsi, quarters, target=0, baseline=Blur(4.0))
    >>> result.effects.missing
    'the image blurred by 4 pixels'
    """

    sigma: float

    def __post_init__(self) -> None:
        if not (isinstance(self.sigma, NUMBER) and 0 < self.sigma < float("inf")):
            raise ValueError(f"sigma must be a positive number of pixels, not {self.sigma!r}")

    def __str__(self) -> str:
        return f"the image blurred by {self.sigma:g} pixels"

    def values(self, hsi: HSI, ids: np.ndarray) -> torch.Tensor:
        """Return the baseline of an image, of its shape.

        Examples
        --------
        >>> Blur(4.0).values(hsi, mask.numpy()).shape == hsi.image.shape
        True
        """
        image = hsi.image.detach().cpu().to(floating_dtype(hsi.image))
        used = hsi.binary_mask.cpu()
        planes = torch.where(used, image, 0).double().movedim(hsi.spectral_axis, 0)[:, None]
        weights = used.double().movedim(hsi.spectral_axis, 0)[:, None]
        for axis in (2, 3):
            planes, weights = self._along(planes, axis), self._along(weights, axis)
        blurred = (planes / weights.clamp(min=1e-12))[:, 0].movedim(0, hsi.spectral_axis)
        return torch.where(used, blurred.to(image.dtype), 0).contiguous()

    def _along(self, planes: torch.Tensor, axis: int) -> torch.Tensor:
        radius = min(int(4 * self.sigma + 0.5), 4 * planes.shape[axis])
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / self.sigma) ** 2)
        shape, padding = [1, 1, 1, 1], [0, 0]
        shape[axis], padding[axis - 2] = len(kernel), radius
        return functional.conv2d(planes, (kernel / kernel.sum()).reshape(shape), padding=padding)


@dataclass(frozen=True, eq=False)
class Background:
    """Left out features take each of some spectra in turn, and the outputs are averaged per coalition.

    Parameters
    ----------
    spectra : tensor or array, (spectra, bands)
        Typical spectra, such as some pixels of other images; finite. Each makes as many evaluations as one baseline.

    Notes
    -----
    The value of a coalition is the mean of the model's outputs, not the output of the mean: the expectation that
    Shapley values are defined with. Distances of `Lime` are measured to the mean spectrum.

    Examples
    --------
    >>> shap = KernelShap(model)
    >>> result = shap.get_spectral_attributes(hsi, band_names=groups, target=0, baseline=Background(spectra[:5]))
    >>> result.effects.missing
    '5 background spectra in turn'
    """

    spectra: torch.Tensor | np.ndarray

    def __post_init__(self) -> None:
        spectra = tensor_from_array(self.spectra) if isinstance(self.spectra, np.ndarray) else self.spectra
        if not isinstance(spectra, torch.Tensor) or spectra.ndim != 2 or spectra.numel() == 0 or spectra.is_complex():
            raise ValueError("spectra must be a tensor or array (spectra, bands) of real numbers, with at least one")
        spectra = spectra.detach().to("cpu", torch.float64, copy=True).contiguous()
        if not bool(spectra.isfinite().all()):
            raise ValueError("spectra must be finite")
        object.__setattr__(self, "spectra", spectra)

    def __str__(self) -> str:
        return f"{len(self.spectra)} background spectra in turn"

    def table(self, hsi: HSI) -> np.ndarray:
        """Return the spectra, after a look at their number of bands.

        Examples
        --------
        >>> Background(spectra[:20]).table(hsi).shape
        (20, 150)
        """
        bands = hsi.image.shape[hsi.spectral_axis]
        if self.spectra.shape[1] != bands:
            raise ValueError(f"spectra must have a value for each of {bands} bands, not {self.spectra.shape[1]}")
        return self.spectra.numpy()  # type: ignore[union-attr]


@dataclass(frozen=True)
class MissingValues:
    """What left out features take in each image, as the core takes it.

    Attributes
    ----------
    baselines : list of float or torch.Tensor
        One for each image.
    backgrounds : list of array or None, or None
        Spectra of each image; None where there are none at all.
    names : list of str
        What results say.
    """

    baselines: list[float | torch.Tensor]
    backgrounds: list[np.ndarray | None] | None
    names: list[str]


def missing_values(baseline: Any, images: list[HSI], ids: list[np.ndarray]) -> MissingValues:
    """Read the `baseline` of methods over features: one, or a list of one for each image."""
    given = one_for_each_image(baseline, "baseline", len(images)) if isinstance(baseline, list) else None
    given = [baseline] * len(images) if given is None else given
    baselines, backgrounds, names = [], [], []
    for one, hsi, features in zip(given, images, ids, strict=True):
        spectra = one.table(hsi) if isinstance(one, Background) else None
        value = torch.from_numpy(spectra.mean(0)) if spectra is not None else one
        if isinstance(one, SegmentMean | Blur):
            value = one.values(hsi, features)
        baselines.append(checked_baseline(value, hsi))
        backgrounds.append(spectra)
        names.append(str(one) if isinstance(one, SegmentMean | Blur | Background) else _name(one))
    return MissingValues(baselines, backgrounds if any(b is not None for b in backgrounds) else None, names)


def _name(baseline: Any) -> str:
    if baseline is None:
        return "0"
    if isinstance(baseline, str):
        return "the mean spectrum"
    if isinstance(baseline, torch.Tensor | np.ndarray) and baseline.ndim > 0:
        return "a spectrum" if baseline.ndim == 1 else "another image"
    return f"{float(baseline):g}"
