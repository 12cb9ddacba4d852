"""Functions of tensors, samples and surrogates that the tests of LIME on tensors share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from meteors_c.attr.lime_base import LimeBase
from meteors_c.models import InterpretableModel, SkLearnLinearRegression

X = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
ONE = X[:1]


def linear(x: torch.Tensor) -> torch.Tensor:
    """Give (n,)."""
    return x.double() @ WEIGHTS


def two_outputs(x: torch.Tensor) -> torch.Tensor:
    """Give (n, 2): the linear function, and the sum."""
    return torch.stack([linear(x), x.sum(1)], 1)


def least_squares() -> SkLearnLinearRegression:
    return SkLearnLinearRegression()


def close(found: torch.Tensor, wanted: torch.Tensor | list[Any], atol: float = 1e-9) -> None:
    wanted = torch.as_tensor(wanted)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-6, atol=atol)


def every_sample(original: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
    """Every sample of the features, again and again."""
    features = kwargs["num_interp_features"]
    while True:
        for number in range(2**features):
            yield torch.tensor([[number >> j & 1 for j in range(features)]])


class MeanDifference(InterpretableModel):
    """The mean output with a feature less that without; keeps what it was given."""

    def fit(self, train_data: Any, **kwargs: Any) -> None:
        ((self.x, self.y, self.weight),) = list(train_data)
        kept, dropped = self.x * self.weight[:, None], (1 - self.x) * self.weight[:, None]
        self.means = self.y @ kept / kept.sum(0) - self.y @ dropped / dropped.sum(0)

    def get_representation(self) -> torch.Tensor:
        return self.means

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.means


def noise(original: Any, **kwargs: Any) -> Any:
    """Normal noise around tensors or tuples."""
    if isinstance(original, tuple):
        return tuple(map(noise, original))
    return original + torch.randn(original.shape, dtype=original.dtype)


def alike(*arguments: Any, **kwargs: Any) -> float:
    return 1.0


def itself(sample: Any, original: Any, **kwargs: Any) -> torch.Tensor:
    return sample


def base(model: Callable[..., Any], surrogate: InterpretableModel | None = None, **functions: Any) -> LimeBase:
    """Samples with noise whose values are the features, but for what is given."""
    arguments = {
        "similarity_func": alike,
        "perturb_func": noise,
        "perturb_interpretable_space": False,
        "from_interp_rep_transform": None,
        "to_interp_rep_transform": itself,
        **functions,
    }
    return LimeBase(model, least_squares() if surrogate is None else surrogate, **arguments)
