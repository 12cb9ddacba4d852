"""LIME with functions and models of the user's: what the core draws and evaluates goes through them in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from meteors_c.hsi import HSI
from meteors_c.models.abstract import InterpretableModel
from meteors_c.utils import floating_dtype, warn_caller

__all__ = ["CustomFit", "fit_custom", "perturbations_of", "similarities_of"]

_END = object()
_ROUNDING = 1e-3


class CustomFit(NamedTuple):
    """Coefficients ``(features,)``, intercept and the R2 of both kinds."""

    coefficients: np.ndarray
    intercept: float
    score: float
    weighted_score: float


def _inputs(hsi: HSI, numbered: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image and its features as user functions see them, both (1, *image)."""
    image = hsi.get_image().detach()
    mask = torch.from_numpy(np.ascontiguousarray(numbered)).long().to(image.device)
    return image.to(floating_dtype(image))[None], mask[None]


def perturbations_of(
    perturb_func: Callable[..., Any], hsi: HSI, numbered: np.ndarray, features: int, baseline: Any, n_samples: int
) -> np.ndarray:
    """Return the samples (n, features) that a user's function draws: calls of it, or what its generator yields."""
    image, mask = _inputs(hsi, numbered)
    arguments = {"feature_mask": mask, "baselines": baseline, "num_interp_features": features}
    source: Iterator[Any] | None = None
    rows: list[np.ndarray] = []
    while len(rows) < n_samples:
        one = perturb_func(image, **arguments) if source is None else next(source, _END)
        if one is _END:
            warn_caller(f"perturb_func ended after {len(rows)} of {n_samples} samples: the fit uses those")
            break
        if source is None and isinstance(one, Iterator):
            source = one
        else:
            rows.append(_row(one, features))
    if not rows:
        raise ValueError("perturb_func gave no sample")
    return np.ascontiguousarray(np.stack(rows))


def _row(sample: Any, features: int) -> np.ndarray:
    values = torch.as_tensor(sample).detach().cpu().double().reshape(-1)
    if values.numel() != features:
        raise ValueError(
            f"perturb_func must give samples of shape (1, {features}), not {tuple(torch.as_tensor(sample).shape)}"
        )
    if not bool(((values == 0) | (values == 1)).all()):
        raise ValueError("perturb_func must give samples of 0 and 1: which features keep the image's values")
    return values.numpy().astype(np.uint8)


def similarities_of(
    similarity_func: Callable[..., Any], hsi: HSI, numbered: np.ndarray, samples: np.ndarray, baseline: Any
) -> np.ndarray:
    """Return the weights (n, 1) that a user's function gives to samples."""
    image, mask = _inputs(hsi, numbered)
    features = samples.shape[1]
    missing = baseline if isinstance(baseline, torch.Tensor) else torch.tensor(baseline)
    missing = missing.to(image.device, image.dtype)
    arguments = {"feature_mask": mask, "baselines": baseline, "num_interp_features": features}
    weights = np.empty((len(samples), 1))
    for k, row in enumerate(samples):
        one = torch.from_numpy(row.astype(np.int64)).to(image.device)[None]
        kept = torch.cat([one[0], one.new_ones(1)])[mask].bool()  # id -1, in none, reads the last place
        weight = similarity_func(image, torch.where(kept, image, missing), one, **arguments)
        weights[k] = float(torch.as_tensor(weight).detach().reshape(()))
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("similarity_func must give finite weights that are not negative")
    if not weights.any():
        raise ValueError("similarity_func gave every sample a weight of 0: nothing is left to fit")
    return weights


def fit_custom(model: InterpretableModel, samples: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> CustomFit:
    """Fit a model of the user's to samples (n, features), their outputs (n,) and weights (n,), in one batch."""
    x = torch.from_numpy(samples.astype(np.float32))
    y = torch.from_numpy(outputs.astype(np.float32))
    given = y.double().numpy()
    if np.abs(given - outputs).max() > _ROUNDING * np.ptp(outputs) > 0:
        warn_caller(
            f"outputs vary by {np.ptp(outputs):.3g} around {outputs.mean():.6g}, which the float32 of an interpretable "
            "model can't hold: take the model's outputs relative to a reference, or Lasso, Ridge or LinearRegression"
        )
    w = torch.from_numpy(weights.astype(np.float32))
    model.fit(DataLoader(TensorDataset(x, y, w), batch_size=len(x)))
    found = torch.as_tensor(model.get_representation()).detach().cpu().double()
    if found.numel() != samples.shape[1]:
        raise ValueError(
            f"the interpretable model must have one coefficient for each of {samples.shape[1]} features, not a "
            f"representation of shape {tuple(found.shape)}"
        )
    predicted = torch.as_tensor(model(x)).detach().cpu().double().reshape(-1).numpy()
    if len(predicted) != len(samples):
        raise ValueError(
            f"the interpretable model must give one number for each of {len(samples)} samples, not {len(predicted)}"
        )
    bias = getattr(model, "bias", None)
    bias = bias() if callable(bias) else None
    return CustomFit(
        found.reshape(-1).numpy(),
        float(bias.detach().reshape(-1)[0]) if isinstance(bias, torch.Tensor) and bias.numel() == 1 else float("nan"),
        _r2(given, predicted, np.ones(len(given))),
        _r2(given, predicted, weights),
    )


def _r2(y: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> float:
    """R2 as scikit-learn defines it; NaN for fewer than two samples."""
    if len(y) < 2:
        return float("nan")
    left = float((weights * (y - predicted) ** 2).sum())
    total = float((weights * (y - np.average(y, weights=weights)) ** 2).sum())
    if total == 0 or np.ptp(y[weights > 0]) == 0:  # means of equal numbers round
        return 1.0 if left == 0 else 0.0
    return 1.0 - left / total
