"""What methods over features find of each feature, before it is spread over the image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from meteors_c.attr._fields import same

__all__ = ["FeatureEffects"]


@dataclass(frozen=True, eq=False)
class FeatureEffects:
    """What was found of each superpixel or superband of one image, for one output.

    Attributes
    ----------
    ids : torch.Tensor of int64, (features,)
        Ids of the features in the mask, ascending; the order of all that follows.
    values : torch.Tensor of float64, (features,)
        Coefficients of `Lime`, Shapley values of `KernelShap` and `ShapleyValueSampling`, in output units.
    standard_errors : torch.Tensor of float64, (features,), or None
        Of the values: 0 where all coalitions were enumerated, NaN where there were too few samples to tell.
    interactions : torch.Tensor of float64, (features, features), or None
        For `KernelShap` with ``interactions=True``: beside the diagonal half the pairwise Shapley interaction index, on
        it the main effects. Symmetric; rows sum to `values`.
    baseline_output, output : float or None
        What the model says of the baseline and of the image, for Shapley values: ``values`` sum to their difference.
    intercept : float or None
        Of the surrogate of `Lime`.
    score, weighted_score : float or None
        R2 of the surrogate on its samples: each counted alike, and by the weights it was fitted with.
    score_interval : tuple of float, or None
        The 95 % bootstrap interval of `score`.
    effective_samples : float or None
        Of `Lime`: how many distinct samples there are, equal weights assumed, by their weights (Kish).
    exact : bool
        Whether the values come from all coalitions.
    missing : str
        What a feature that is left out takes.
    samples : int
        Draws of `Lime`, permutations of `ShapleyValueSampling`, distinct coalitions of `KernelShap`.
    seed : int
        Of the random numbers.
    coalitions : torch.Tensor of uint8, (coalitions, features)
        What the model was asked: 1 where the feature kept the image's values.
    outputs : torch.Tensor of float64, (coalitions,)
        What it said. A later call with ``continue_from`` begins with them.

    Examples
    --------
    >>> effects = KernelShap(model).get_spectral_attributes(hsi, band_names=groups, target=0).effects
    >>> drop = effects.output - effects.baseline_output
    >>> abs(float(effects.values.sum()) - drop) < 1e-9 * abs(drop)
    True
    """

    ids: torch.Tensor
    values: torch.Tensor
    standard_errors: torch.Tensor | None = None
    interactions: torch.Tensor | None = None
    baseline_output: float | None = None
    output: float | None = None
    intercept: float | None = None
    score: float | None = None
    weighted_score: float | None = None
    score_interval: tuple[float, float] | None = None
    effective_samples: float | None = None
    exact: bool = False
    missing: str = "0"
    samples: int = 0
    seed: int = 0
    coalitions: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.uint8))
    outputs: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def ranking(self) -> torch.Tensor:
        """Return the ids by falling size of their values, (features,).

        Examples
        --------
        >>> effects = FeatureEffects(ids=torch.tensor([1, 2, 3]), values=torch.tensor([0.5, -2.0, 1.0]))
        >>> effects.ranking()
        tensor([2, 3, 1])
        """
        return self.ids[torch.argsort(self.values.abs(), descending=True, stable=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name.

        Examples
        --------
        >>> effects = FeatureEffects(ids=torch.tensor([1, 2]), values=torch.tensor([0.5, -2.0]), samples=100)
        >>> effects.to_dict()["samples"]
        100
        """
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureEffects):
            return NotImplemented
        return all(same(value, getattr(other, name)) for name, value in self.to_dict().items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        lines = [f"{len(self.ids)} features, {self.samples} samples{', exact' if self.exact else ''}"]
        if self.score is not None:
            interval = (
                "" if self.score_interval is None else f" [{self.score_interval[0]:.3f}, {self.score_interval[1]:.3f}]"
            )
            lines.append(f"R2 {self.score:.3f}{interval}, weighted {self.weighted_score:.3f}")
        lines.append(f"left out features take {self.missing}")
        return f"FeatureEffects({'; '.join(lines)})"
