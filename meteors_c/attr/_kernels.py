"""Kernels of LIME: how much a sample counts, by its distance from the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from meteors_c.attr._arguments import NUMBER

__all__ = ["ExpKernelSimilarity", "get_exp_kernel_similarity_function"]


@dataclass(frozen=True)
class ExpKernelSimilarity:
    """The weight ``exp(-d^2 / (2 width^2))`` of a sample at distance d from the image.

    `Lime` recognises it and has the core compute the distances from sums over features, without looking at a sample.

    Attributes
    ----------
    distance_mode : {"cosine", "euclidean"}
        d is 1 - the cosine of the angle between image and sample, or the length of their difference.
    kernel_width : float
        Positive.

    Raises
    ------
    ValueError
        For another mode, or a width that is not positive.

    Examples
    --------
    >>> kernel = ExpKernelSimilarity("euclidean", kernel_width=2.0)
    >>> round(kernel(torch.zeros(4), torch.ones(4)), 4)  # distance 2: exp(-4 / 8)
    0.6065
    """

    distance_mode: str = "cosine"
    kernel_width: float = 1.0

    def __post_init__(self) -> None:
        if self.distance_mode not in ("cosine", "euclidean"):
            raise ValueError(f"distance_mode must be 'cosine' or 'euclidean', not {self.distance_mode!r}")
        if not (isinstance(self.kernel_width, NUMBER) and 0 < self.kernel_width < math.inf):
            raise ValueError(f"kernel_width must be a positive number, not {self.kernel_width!r}")

    def __call__(self, original_inp: Any, perturbed_inp: Any, *unused: Any, **ignored: Any) -> float:
        """Return the weight of a sample, in (0, 1]; both are a tensor, or a tuple of as many tensors."""
        image, sample = _flat(original_inp), _flat(perturbed_inp)
        if self.distance_mode == "cosine":
            distance = 1.0 - float(functional.cosine_similarity(image, sample, dim=0))
        else:
            distance = float(torch.linalg.vector_norm(image - sample))
        return math.exp(-(distance**2) / (2 * self.kernel_width**2))


def _flat(tensors: Any) -> torch.Tensor:
    """Return all values behind each other."""
    parts = tensors if isinstance(tensors, tuple) else (tensors,)
    return torch.cat([part.detach().double().flatten() for part in parts])


def get_exp_kernel_similarity_function(distance_mode: str = "cosine", kernel_width: float = 1.0) -> ExpKernelSimilarity:
    """Return an exponential kernel for `Lime`.

    Parameters
    ----------
    distance_mode : {"cosine", "euclidean"}, default "cosine"
        The distance between the image and a sample, both flattened; tuples of tensors are flattened into one vector.
    kernel_width : float, default 1.0
        The larger, the more alike samples count.

    Returns
    -------
    callable
        ``similarity(original, perturbed, interpretable_sample, **kwargs) -> float``.

    Raises
    ------
    ValueError
        For another mode, or a width that is not positive.

    Examples
    --------
    >>> lime = Lime(model, similarity_func=get_exp_kernel_similarity_function("euclidean", kernel_width=500.0))
    """
    return ExpKernelSimilarity(distance_mode, kernel_width)
