"""LIME with functions and models of the user's: what the core draws and evaluates goes through them in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from meteors_c.hsi import HSI
from meteors_c.models._fitting import fit_in_core
from meteors_c.models.abstract import InterpretableModel
from meteors_c.models.linear import SkLearnLinearModel
from meteors_c.utils import floating_dtype, warn_caller

__all__ = [
    "CustomFit",
    "Question",
    "checked_weights",
    "drawn",
    "fit_batch",
    "fit_custom",
    "perturbations_of",
    "question_of",
    "r2",
    "similarities_of",
]

_END = object()  # what a generator that ended gives
_ROUNDING = 1e-3  # of outputs in float32, relative to their range


class CustomFit(NamedTuple):
    """Coefficients ``(features,)``, intercept and the R2 of both kinds."""

    coefficients: np.ndarray
    intercept: float
    score: float
    weighted_score: float


@dataclass(frozen=True)
class Question:
    """What functions of the user's are told of an example.

    Attributes
    ----------
    original : torch.Tensor or tuple of torch.Tensor
        What is explained, as they see it.
    arguments : dict
        ``feature_mask``, ``baselines`` and ``num_interp_features``.
    perturbed : callable
        Gives the example that belongs to a sample ``(1, num_interp_features)``.
    known : numpy.ndarray
        Which of the features the core knows, in its order: those that have a place.
    """

    original: Any
    arguments: dict[str, Any]
    perturbed: Callable[[torch.Tensor], Any]
    known: np.ndarray

    @property
    def features(self) -> int:
        """How many values a sample has."""
        return int(self.arguments["num_interp_features"])


def question_of(hsi: HSI, numbered: np.ndarray, features: int, baseline: Any) -> Question:
    """Return what functions are told of an image: tensors (1, *image) of its values and the numbers of its features."""
    image = hsi.get_image().detach()
    image = image.to(floating_dtype(image))[None]
    mask = torch.from_numpy(numbered.astype(np.int64)).to(image.device)[None]
    missing = torch.as_tensor(baseline, dtype=image.dtype, device=image.device)
    missing = torch.where(hsi.binary_mask, missing, 0)  # what the mask hides never changes

    def perturbed(sample: torch.Tensor) -> torch.Tensor:
        kept = torch.cat([sample[0], sample.new_ones(1)])[mask].bool()  # id -1, in none, reads the last place
        return torch.where(kept, image, missing)

    arguments = {"feature_mask": mask, "baselines": baseline, "num_interp_features": features}
    return Question(image, arguments, perturbed, np.arange(features))


def drawn(perturb_func: Callable[..., Any], original: Any, arguments: dict[str, Any], n_samples: int) -> Iterator[Any]:
    """Yield what a user's function draws: results of calls of it, or what its generator yields."""
    source: Iterator[Any] | None = None
    count = 0
    while count < n_samples:
        one = perturb_func(original, **arguments) if source is None else next(source, _END)
        if source is None and isinstance(one, Iterator):
            source = one
            continue
        if one is _END and count == 0:
            raise ValueError("perturb_func gave no sample")
        if one is _END:
            warn_caller(f"perturb_func ended after {count} of {n_samples} samples: the fit uses those")
            return
        yield one
        count += 1


def perturbations_of(perturb_func: Callable[..., Any], question: Question, n_samples: int) -> np.ndarray:
    """Return the samples (n, features) that a user's function draws, of the features that the core knows."""
    samples = drawn(perturb_func, question.original, question.arguments, n_samples)
    rows = np.stack([_row(one, question.features) for one in samples])
    return np.ascontiguousarray(rows[:, question.known])


def _row(sample: Any, features: int) -> np.ndarray:
    values = torch.as_tensor(sample).detach().cpu().double().reshape(-1)
    if values.numel() != features:
        raise ValueError(
            f"perturb_func must give samples of shape (1, {features}), not {tuple(torch.as_tensor(sample).shape)}"
        )
    if not bool(((values == 0) | (values == 1)).all()):
        raise ValueError("perturb_func must give samples of 0 and 1: which features are kept")
    return values.numpy().astype(np.uint8)


def similarities_of(similarity_func: Callable[..., Any], question: Question, samples: np.ndarray) -> np.ndarray:
    """Return the weights (n, 1) that a user's function gives to samples of the features that the core knows."""
    of_features = np.zeros((len(samples), question.features), dtype=np.int64)
    of_features[:, question.known] = samples
    first = question.original[0] if isinstance(question.original, tuple) else question.original
    rows = torch.from_numpy(of_features).to(first.device)[:, None]
    weights = [similarity_func(question.original, question.perturbed(row), row, **question.arguments) for row in rows]
    return checked_weights(weights)[:, None]


def checked_weights(given: list[Any]) -> np.ndarray:
    """Return weights (n,) that a user's function gave: numbers, or tensors with one."""
    weights = np.array([one.item() if isinstance(one, torch.Tensor) else float(one) for one in given], np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("similarity_func must give finite weights that are not negative")
    if not weights.any():
        raise ValueError("similarity_func gave every sample a weight of 0: nothing is left to fit")
    return weights


def fit_batch(
    model: InterpretableModel, samples: np.ndarray, outputs: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a model to samples (n, features), their outputs (n,) and weights (n,).

    The core fits the models that it can, in double; the others get one batch of float32. Returns the outputs as the
    model was given them, and what it predicts for the samples.
    """
    core = model.core_fit() if isinstance(model, SkLearnLinearModel) else None
    if core is not None:
        coefficients, intercepts = fit_in_core(model, samples, outputs, weights)
        return outputs, samples @ coefficients[0] + intercepts[0]
    x, y, w = (torch.from_numpy(values.astype(np.float32)) for values in (samples, outputs, weights))
    given = y.double().numpy()
    if np.abs(given - outputs).max() > _ROUNDING * np.ptp(outputs):
        warn_caller(
            f"outputs vary by {np.ptp(outputs):.3g} around {outputs.mean():.6g}, which the float32 of an interpretable "
            "model can't hold: take the model's outputs relative to a reference, or Lasso, Ridge or LinearRegression"
        )
    if not bool(w.any()):
        raise ValueError("similarity_func gave weights that are all 0 in float32, the dtype of the interpretable model")
    model.fit(DataLoader(TensorDataset(x, y, w), batch_size=len(x)))
    predicted = torch.as_tensor(model(x)).detach().cpu().double().reshape(-1).numpy()
    if len(predicted) != len(samples):
        raise ValueError(
            f"the interpretable model must give one number for each of {len(samples)} samples, not {len(predicted)}"
        )
    return given, predicted


def fit_custom(model: InterpretableModel, samples: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> CustomFit:
    """Fit a model of the user's, which must have one coefficient for each feature; see `fit_batch`."""
    if not np.isfinite(outputs).all():
        raise ValueError("a surrogate needs outputs that are finite: the model gives NaN or infinity for a sample")
    given, predicted = fit_batch(model, samples, outputs, weights)
    representation = model.get_representation()
    try:
        found = torch.as_tensor(representation).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"the interpretable model must have coefficients, not a representation of {type(representation).__name__}"
        ) from error
    if found.numel() != samples.shape[1]:
        raise ValueError(
            f"the interpretable model must have one coefficient for each of {samples.shape[1]} features, not a "
            f"representation of shape {tuple(found.shape)}"
        )
    bias = getattr(model, "bias", None)
    bias = bias() if callable(bias) else None
    return CustomFit(
        found.reshape(-1).numpy(),
        float(bias.detach().reshape(-1)[0]) if isinstance(bias, torch.Tensor) and bias.numel() == 1 else float("nan"),
        r2(given, predicted, np.ones(len(given))),
        r2(given, predicted, weights),
    )


def r2(y: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> float:
    """R2 as scikit-learn defines it; NaN for fewer than two samples."""
    if len(y) < 2:
        return float("nan")
    left = float((weights * (y - predicted) ** 2).sum())
    total = float((weights * (y - np.average(y, weights=weights)) ** 2).sum())
    if total == 0 or np.ptp(y[weights > 0]) == 0:  # means of equal numbers round
        return 1.0 if left == 0 else 0.0
    return 1.0 - left / total
