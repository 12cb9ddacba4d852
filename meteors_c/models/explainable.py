"""The model to be explained."""

from __future__ import annotations

import functools
import inspect
import itertools
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

__all__ = ["ExplainableModel"]


class _Postprocessed:
    """A model followed by a function of its output."""

    def __init__(self, model: Callable[..., Any], postprocessing: Callable[[Any], Any]) -> None:
        self.model = model
        self.postprocessing = postprocessing

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.postprocessing(self.model(*args, **kwargs))


class ExplainableModel:
    """A model together with what kind of problem it solves.

    Parameters
    ----------
    forward_func : callable
        What maps a batch ``(n, *image shape)`` to outputs ``(n,)`` or ``(n, outputs, ...)``: a `torch.nn.Module`, a
        TorchScript module (which runs without Python), a function on tensors, or, with `array_input`, a function on
        NumPy arrays.
    problem_type : {"classification", "regression", "segmentation"}
        Case is ignored.
    postprocessing_output : callable, optional
        Applied to the model's output; required for segmentation, where it turns maps into numbers.
    array_input : bool, default False
        Call `forward_func` with NumPy arrays. Such a model has outputs but no gradients.

    Attributes
    ----------
    forward_func : callable
        The very object given, or its composition with the postprocessing.
    problem_type : str
        In lower case.
    postprocessing_segmentation_output : bool
        Whether a postprocessing was given.

    Raises
    ------
    TypeError
        If `problem_type` is not a string.
    ValueError
        If `problem_type` is unknown, or it is segmentation and there is no postprocessing.
    """

    VALID_PROBLEM_TYPES: ClassVar[set[str]] = {"classification", "regression", "segmentation"}

    def __init__(
        self,
        forward_func: Callable[..., Any],
        problem_type: str,
        postprocessing_output: Callable[[Any], Any] | None = None,
        *,
        array_input: bool = False,
    ) -> None:
        self.problem_type = self.validate_problem_type(problem_type)
        if self.problem_type == "segmentation" and postprocessing_output is None:
            raise ValueError(
                "postprocessing_output is None, but a segmentation model needs one that turns its maps into "
                "(n,) or (n, outputs) numbers, such as meteors_c.utils.agg_segmentation_postprocessing()"
            )
        if self.problem_type != "segmentation" and postprocessing_output is not None:
            warnings.warn(
                f"postprocessing_output is meant for segmentation; it is applied to this {self.problem_type} model too",
                UserWarning,
                stacklevel=2,
            )
        self.forward_func: Callable[..., Any] = forward_func
        self.postprocessing_segmentation_output = postprocessing_output is not None
        if postprocessing_output is not None:
            self.forward_func = _Postprocessed(forward_func, postprocessing_output)
        self.array_input = array_input

    @staticmethod
    def validate_problem_type(value: str) -> str:
        """Return a problem type in lower case.

        Raises
        ------
        TypeError
            If it is not a string.
        ValueError
            If it is unknown.
        """
        if not isinstance(value, str):
            raise TypeError(f"problem_type must be a string, not {type(value).__name__}")
        if value.lower() not in ExplainableModel.VALID_PROBLEM_TYPES:
            known = ", ".join(sorted(ExplainableModel.VALID_PROBLEM_TYPES))
            raise ValueError(f"problem_type must be one of {known}, not {value!r}")
        return value.lower()

    @property
    def module(self) -> nn.Module | None:
        """The `torch.nn.Module` that `forward_func` is, or is made of; None where none is known."""
        function: Any = self.forward_func
        if isinstance(function, _Postprocessed):
            function = function.model
        if isinstance(function, functools.partial):
            function = function.func
        if inspect.ismethod(function):
            function = function.__self__
        return function if isinstance(function, nn.Module) else None

    @property
    def device(self) -> torch.device | None:
        """Where the model's first parameter or buffer lies; None where it has none."""
        module = self.module
        if module is None:
            return None
        first = next(itertools.chain(module.parameters(), module.buffers()), None)
        return None if first is None else first.device

    def __call__(self, x: Any) -> Any:
        """Apply `forward_func`."""
        return self.forward_func(x)

    def to(self, device: str | torch.device) -> ExplainableModel:
        """Move the model to a device, if it can be moved; otherwise warn.

        Returns
        -------
        ExplainableModel
            This object.
        """
        movable = self.module if self.module is not None else self.forward_func
        if hasattr(movable, "to"):
            movable.to(device)
        else:
            warnings.warn(f"a {type(movable).__name__} can't be moved to {device}", UserWarning, stacklevel=2)
        return self

    def __repr__(self) -> str:
        module = self.module
        name = type(module).__name__ if module is not None else getattr(self.forward_func, "__name__", None)
        return f"ExplainableModel({name or type(self.forward_func).__name__}, {self.problem_type!r})"
