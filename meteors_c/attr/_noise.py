"""The perturbations of the noise tunnels: their arguments as the core takes them, and images perturbed by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch

from meteors_c import _core
from meteors_c.attr._arguments import NUMBER, integer, one_for_each_image, positive
from meteors_c.attr._streams import given
from meteors_c.utils import floating_dtype

EVERYWHERE = (None, None, None)  # all positions along each axis


class NoiseTunnelType(str, Enum):
    """The moments of attributions that a noise tunnel computes; a member stands for its name.

    Examples
    --------
    >>> [str(moment.value) for moment in NoiseTunnelType]
    ['smoothgrad', 'smoothgrad_sq', 'vargrad']
    """

    smoothgrad = "smoothgrad"
    smoothgrad_sq = "smoothgrad_sq"
    vargrad = "vargrad"


@dataclass(frozen=True)
class Noise:
    """What perturbs the copies of each image.

    Attributes
    ----------
    kind : {"noise", "bands"}
        Normal noise, or bands that take the baseline's values.
    baselines : list
        One for each image.
    stdevs : list of float
        For noise, the standard deviation for each image.
    selected : tuple
        For noise, flags of the positions along each axis that are perturbed, None for all; see `selected_positions`.
    probability : float
        For bands, the probability that one is replaced.
    exact : int or None
        For bands, how many are replaced instead.
    """

    kind: str
    baselines: list[float | torch.Tensor]
    stdevs: list[float]
    selected: tuple[bytes | None, ...] = EVERYWHERE
    probability: float = 0.0
    exact: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the core but for the baselines, which every method passes by themselves."""
        return {
            "perturbation": self.kind,
            "stdevs": self.stdevs,
            "selected": self.selected,
            "probability": self.probability,
            "exact": self.exact,
        }


@dataclass(frozen=True)
class Moment:
    """Which moment of the attributions is wanted, and of how many copies; as the user gave it."""

    method: str
    n_samples: int
    standard_error: bool
    tolerance: float | None

    def arguments(self) -> dict[str, Any]:
        """Check the fields and return them as arguments of the core."""
        known = [one.value for one in NoiseTunnelType]
        if self.method not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, not {self.method!r}")
        if self.tolerance is not None and not (isinstance(self.tolerance, NUMBER) and self.tolerance > 0):
            raise ValueError(f"tolerance must be a positive number or None, not {self.tolerance!r}")
        return {
            "method": NoiseTunnelType(self.method).value,
            "n_samples": positive(self.n_samples, "n_samples"),
            "tolerance": float(self.tolerance or 0),
            "standard_error": self.standard_error,
        }


def perturbed(
    image: torch.Tensor,
    n_samples: int,
    baseline: torch.Tensor | None = None,
    stdev: float = 0.0,
    selected: tuple[bytes | None, ...] = EVERYWHERE,
    probability: float = 0.0,
    exact: int | None = None,
) -> torch.Tensor:
    """Return perturbed copies of an image, ``(n_samples, *image.shape)``.

    Bands are replaced where there is a baseline, and noise is added where there is none; the other arguments are those
    of `Noise`.
    """
    drawn = _core.perturb(image, baseline, n_samples, new_seed(), stdev, selected, probability, exact)
    dtype = image.dtype if image.is_floating_point() else floating_dtype(image)
    return torch.from_numpy(drawn).to(device=image.device, dtype=dtype)


def new_seed() -> int:
    """Draw a seed from torch's global generator, so that `torch.manual_seed` repeats a run.

    Calls that belong together have one seed, which the first of them draws.
    """
    streams = given()
    if streams is None:
        return int(torch.randint(2**62, ()))
    if streams.seed is None:
        streams.seed = int(torch.randint(2**62, ()))
    return streams.seed


def as_probability(value: Any) -> float:
    """Return ``perturbation_prob``, a number from 0 to 1."""
    if not isinstance(value, NUMBER) or not 0 <= value <= 1:
        raise ValueError(f"perturbation_prob must be a number from 0 to 1, not {value!r}")
    return float(value)


def number_of_bands(value: Any, bands: int) -> int | None:
    """Return ``num_perturbed_bands`` for an image of so many bands."""
    if value is None:
        return None
    wanted = f"None or an int from 0 to {bands}, the number of bands"
    return integer(value, "num_perturbed_bands", wanted, 0, bands)


def selected_positions(axes: Any, shape: Sequence[int]) -> tuple[bytes | None, ...]:
    """Return, for each of three axes, flags of the positions to perturb, or None for all."""
    if axes is None:
        return EVERYWHERE
    if not isinstance(axes, tuple):
        raise TypeError(f"perturbation_axis must be a tuple of int and slices, or None, not {axes!r}")
    if len(axes) > len(shape):
        raise IndexError(f"perturbation_axis selects along {len(axes)} axes, but the image has {len(shape)}")

    def flags(choice: Any, size: int) -> bytes:
        if isinstance(choice, bool) or not isinstance(choice, int | np.integer | slice):
            raise TypeError(f"perturbation_axis must be a tuple of int and slices, not {axes!r}")
        if not isinstance(choice, slice) and not -size <= choice < size:
            raise IndexError(f"perturbation_axis {axes!r} is out of range: the image has shape {tuple(shape)}")
        chosen = np.zeros(size, dtype=np.uint8)
        chosen[choice] = 1
        return chosen.tobytes()

    return (*map(flags, axes, shape), *EVERYWHERE[len(axes) :])


def deviations(stdevs: Any, images: int) -> list[float]:
    """Return one standard deviation for each image."""
    many = isinstance(stdevs, list | tuple)
    given = one_for_each_image(list(stdevs) if many else [stdevs] * images, "stdevs", images)
    wrong = [value for value in given if not isinstance(value, NUMBER)]
    if wrong:
        raise TypeError(f"stdevs must be numbers, not {wrong[0]!r}")
    bad = [value for value in given if not 0 <= value < math.inf]
    if bad:
        raise ValueError(f"stdevs must be finite and not negative, not {bad[0]!r}")
    try:
        return list(map(float, given))
    except OverflowError:
        raise ValueError("stdevs has an int too large for a float") from None


def detached_tensor(value: Any, name: str) -> torch.Tensor:
    """Return a tensor without its graph."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(value).__name__}")
    return value.detach()


def detached_image(value: Any, name: str) -> torch.Tensor:
    """Return a tensor with the three axes of an image, without its graph."""
    tensor = detached_tensor(value, name)
    if tensor.ndim != 3:
        raise ValueError(f"{name} must have three axes, not shape {tuple(tensor.shape)}")
    return tensor
