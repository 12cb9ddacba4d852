"""The model to be explained."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from meteors_c.models._inspection import modules_of, takes_apart, tensors_of
from meteors_c.utils import warn_caller

__all__ = ["ExplainableModel"]


class _Postprocessed:
    """A model followed by a function of its output.

    `warning` is given once, at the first output that is a tensor already.
    """

    def __init__(
        self, model: Callable[..., Any], postprocessing: Callable[[Any], Any], warning: str | None = None
    ) -> None:
        self.model = model
        self.postprocessing = postprocessing
        self.warning = warning

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.model(*args, **kwargs)
        if self.warning is not None and isinstance(output, torch.Tensor):
            warning, self.warning = self.warning, None
            warn_caller(warning)
        return self.postprocessing(output)


class ExplainableModel:
    """A model together with what kind of problem it solves.

    Parameters
    ----------
    forward_func : callable
        What maps a batch ``(n, *image shape)`` to outputs ``(n,)`` or ``(n, outputs, ...)``: a `torch.nn.Module`, a
        TorchScript module (which runs without Python), a function on tensors, or, with `array_input`, a function on
        NumPy arrays. The outputs may be the only tensor of a tuple, list, dict or dataclass, or its ``logits`` or
        ``out``.
    problem_type : {"classification", "regression", "segmentation"}
        Case is ignored.
    postprocessing_output : callable, optional
        Applied to the model's output. Required for segmentation, where it turns maps into numbers; useful where a
        model returns several tensors, of which it picks one. For other problems, a `UserWarning` says so if it is
        applied to an output that is a tensor already.
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
    module, modules, device, dtypes
        What is known of the networks in it; see there.

    Raises
    ------
    TypeError
        If `problem_type` is not a string.
    ValueError
        If `problem_type` is unknown, or it is segmentation and there is no postprocessing.

    Examples
    --------
    >>> model = ExplainableModel(network.eval(), "classification")
    >>> two_heads = lambda x: {"score": network(x), "features": x.mean((2, 3))}
    >>> scores = ExplainableModel(two_heads, "regression", lambda output: output["score"])
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
                "(n,) or (n, outputs) numbers, such as meteors_c.utils.agg_segmentation_postprocessing(classes_numb=3)"
            )
        self.forward_func: Callable[..., Any] = forward_func
        self.postprocessing_segmentation_output = postprocessing_output is not None
        if postprocessing_output is not None:
            warning = None
            if self.problem_type != "segmentation":
                warning = (
                    "postprocessing_output is meant for segmentation, and for outputs that are no tensor; it is "
                    f"applied to the tensors of this {self.problem_type} model too"
                )
                # A function that visibly takes something else than a tensor warns at the first output, if at all.
                if not takes_apart(postprocessing_output):
                    warnings.warn(warning, UserWarning, stacklevel=2)
                    warning = None
            self.forward_func = _Postprocessed(forward_func, postprocessing_output, warning)
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

        Examples
        --------
        >>> ExplainableModel.validate_problem_type("Regression")
        'regression'
        """
        if not isinstance(value, str):
            raise TypeError(f"problem_type must be a string, not {type(value).__name__}")
        if value.lower() not in ExplainableModel.VALID_PROBLEM_TYPES:
            known = ", ".join(sorted(ExplainableModel.VALID_PROBLEM_TYPES))
            raise ValueError(f"problem_type must be one of {known}, not {value!r}")
        return value.lower()

    @property
    def module(self) -> nn.Module | None:
        """The `torch.nn.Module` that `forward_func` is, or applies itself; None where none is known."""
        function: Any = self.forward_func
        if isinstance(function, _Postprocessed):
            function = function.model
        if isinstance(function, functools.partial):
            function = function.func
        if inspect.ismethod(function):
            function = function.__self__
        return function if isinstance(function, nn.Module) else None

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Every network that `forward_func` is made of, those in closures and globals of functions too."""
        return modules_of(self.forward_func)

    @property
    def device(self) -> torch.device | None:
        """Where the first parameter of the networks lies (or buffer, where they have none); None where none is known.

        A frozen TorchScript module, which has neither, is known by the constants in its code.
        """
        first = next((tensor for module in self.modules for tensor in tensors_of(module)), None)
        return None if first is None else first.device

    @property
    def dtypes(self) -> frozenset[torch.dtype]:
        """The floating dtypes of the networks' parameters; of their buffers or constants where they have none."""
        modules = self.modules
        held: list[torch.Tensor] = [parameter for module in modules for parameter in module.parameters()]
        held = held or [tensor for module in modules for tensor in tensors_of(module)]
        return frozenset(tensor.dtype for tensor in held if tensor.is_floating_point())

    def __call__(self, x: Any) -> Any:
        """Apply `forward_func`."""
        return self.forward_func(x)

    def to(self, device: str | torch.device) -> ExplainableModel:
        """Move the model to a device, if it can be moved; otherwise warn.

        Returns
        -------
        ExplainableModel
            This object.

        Examples
        --------
        >>> model.to("cpu").device
        device(type='cpu')
        """
        movable = self.modules or (self.forward_func,)
        for part in movable:
            if hasattr(part, "to"):
                part.to(device)
            else:
                warnings.warn(f"a {type(part).__name__} can't be moved to {device}", UserWarning, stacklevel=2)
        return self

    def __repr__(self) -> str:
        module = self.module
        name = type(module).__name__ if module is not None else getattr(self.forward_func, "__name__", None)
        return f"ExplainableModel({name or type(self.forward_func).__name__}, {self.problem_type!r})"
