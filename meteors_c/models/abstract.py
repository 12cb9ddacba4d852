"""What models are: those to be explained, and those that explain them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch.utils.data import DataLoader

from meteors_c.models.explainable import ExplainableModel

__all__ = ["ExplainableModel", "InterpretableModel"]


class InterpretableModel(ABC):
    """A model that explains another one by its parameters, such as the linear model that LIME fits.

    Derive from it to let `Lime` fit a model of your own. All three methods must be there.

    Examples
    --------
    >>> class MeanDifference(InterpretableModel):
    ...     def fit(self, train_data, **kwargs):
    ...         x, y, weight = (torch.cat(parts) for parts in zip(*train_data))
    ...         on, off = x * weight[:, None], (1 - x) * weight[:, None]
    ...         self.means = (y @ on / on.sum(0), y @ off / off.sum(0))
    ...
    ...     def get_representation(self):
    ...         return self.means[0] - self.means[1]
    ...
    ...     def __call__(self, x):
    ...         return x @ self.get_representation()
    """

    @abstractmethod
    def fit(self, train_data: DataLoader[Any], **kwargs: Any) -> Any:
        """Fit the model.

        Parameters
        ----------
        train_data : torch.utils.data.DataLoader
            Batches ``(x, y)`` or ``(x, y, weight)``: inputs ``(n, features)``, what the explained model gives for them,
            ``(n,)`` or ``(n, outputs)``, and how much each row counts, ``(n,)``.
        **kwargs : Any
            What a model takes beside its data.

        Examples
        --------
        >>> ridge = models.SkLearnRidge(alpha=0.1)
        >>> fitted = ridge.fit(DataLoader(TensorDataset(x, y, weight), batch_size=64))
        """

    @abstractmethod
    def get_representation(self) -> torch.Tensor:
        """Return what explains: the coefficients ``(outputs, features)`` of a linear model.

        Examples
        --------
        >>> ridge = models.SkLearnRidge(alpha=0.1)
        >>> fitted = ridge.fit(DataLoader(TensorDataset(x, y, weight), batch_size=64))
        >>> ridge.get_representation().shape
        torch.Size([1, 3])
        """

    @abstractmethod
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Predict the outputs for inputs ``(n, features)``."""
