"""LIME of the core on tensors of any shape: examples are images of one row to the core, and themselves to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from meteors_c.attr._arguments import NUMBER, RunSettings
from meteors_c.attr._games import Features, Game, read_features
from meteors_c.attr._interpretable import interpolate
from meteors_c.attr._surrogates import Question
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.attr.lime import Lime
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel
from meteors_c.models._extra_arguments import AsIs, PerImage
from meteors_c.models._inspection import modules_of
from meteors_c.models._outputs import tensor_of

__all__ = [
    "Examples",
    "TensorLime",
    "call_forward",
    "extra_arguments",
    "read_baselines",
    "read_tensors",
]

_EXACT_IN_DOUBLE = 2**53
_KEPT_IN_FLOAT32 = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.float32)


# ---------------------------------------------------------------- arguments


def read_tensors(inputs: Any) -> tuple[torch.Tensor, ...]:
    """Return the tensors of `inputs`, which have the examples along their first axis."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors or not all(isinstance(one, torch.Tensor) for one in tensors):
        kinds = ", ".join(type(one).__name__ for one in tensors)
        raise TypeError(
            f"inputs must be a tensor or a tuple of tensors, not {f'({kinds})' if kinds else 'an empty tuple'}"
        )
    for one in tensors:
        if one.is_complex() or one.layout is not torch.strided or one.is_meta:
            raise TypeError(f"inputs must be dense tensors of real numbers, not {one.dtype} with layout {one.layout}")
        if one.ndim == 0 or one.numel() == 0 or len(one) != len(tensors[0]):
            shapes = ", ".join(str(tuple(other.shape)) for other in tensors)
            raise ValueError(
                f"inputs must have the same number of examples along their first axis, not shapes {shapes}"
            )
        _check_values(one, "inputs")
    return tuple(one.detach() for one in tensors)


def _check_values(values: torch.Tensor, name: str) -> None:
    """Raise an error for values that the core can't hold as they are."""
    if values.is_floating_point():
        wrong = ~values.isfinite()
        if bool(wrong.any()):
            place = tuple(wrong.nonzero()[0].tolist())
            raise ValueError(
                f"{name} must be finite, but {int(wrong.sum())} of its values are not, the first at {place}"
            )
    elif values.dtype in (torch.int64, torch.uint64) and float(values.double().abs().max()) >= _EXACT_IN_DOUBLE:
        raise ValueError(f"{name} must hold integers below 2**53 in size")


def read_baselines(baselines: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
    """Return one number, or tensor that broadcasts to its input, for each input; 0 where None."""
    given = baselines if isinstance(baselines, tuple) else (baselines,) * (len(inputs) if baselines is None else 1)
    if len(given) != len(inputs):
        raise ValueError(f"baselines must be one for each of {len(inputs)} inputs, not {len(given)}")
    return tuple(map(_baseline, given, inputs))


def _baseline(value: Any, of: torch.Tensor) -> Any:
    if value is None:
        return 0
    if not isinstance(value, (torch.Tensor, *NUMBER)):
        raise TypeError(f"baselines must be None, numbers, tensors or a tuple of them, not {type(value).__name__}")
    tensor = torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None).detach()
    if tensor.is_complex():
        raise TypeError(f"baselines must be real numbers, not {tensor.dtype}")
    axes = of.ndim - tensor.ndim
    if axes < 0 or any(size not in (1, wanted) for size, wanted in zip(tensor.shape, of.shape[axes:], strict=True)):
        raise ValueError(
            f"baselines must have the shape of their inputs, {tuple(of.shape)}, with one example or as many, or be "
            f"numbers, not of shape {tuple(tensor.shape)}"
        )
    _check_values(tensor.to(of.dtype) if of.is_floating_point() else tensor, "baselines")
    if not of.is_floating_point() and bool((tensor.to(of.dtype) != tensor).any()):
        raise ValueError(f"baselines must be whole numbers that {of.dtype} holds, since the inputs are of that dtype")
    return value if tensor.ndim == 0 else tensor.reshape(*(1,) * axes, *tensor.shape).to(of.device)


def extra_arguments(given: Any, examples: int, one_by_one: bool) -> tuple[AsIs | PerImage, ...]:
    """Return arguments after the input: a tensor with as many entries as examples has one for each of them.

    Where the model takes all examples at once (not `one_by_one`), every argument goes as it is.
    """
    arguments = () if given is None else given if isinstance(given, tuple) else (given,)
    return tuple(_extra_argument(one, examples, one_by_one) for one in arguments)


def _extra_argument(given: Any, examples: int, one_by_one: bool) -> AsIs | PerImage:
    if isinstance(given, AsIs):
        return given
    values = torch.as_tensor(given.values) if isinstance(given, PerImage) else given
    entries = isinstance(values, torch.Tensor) and values.ndim > 0 and len(values) == examples
    if isinstance(given, PerImage) and not entries:
        raise ValueError(
            f"additional_forward_args: PerImage must have an entry for each of {examples} examples, not values of "
            f"shape {tuple(values.shape)}"
        )
    return PerImage(values) if entries and one_by_one else AsIs(values)


def call_forward(
    forward_func: Callable[..., Any], inputs: Sequence[torch.Tensor], arguments: Sequence[Any]
) -> torch.Tensor:
    """Return the outputs of a model; a bare number is one output."""
    outputs = forward_func(*inputs, *arguments)
    found = torch.as_tensor(outputs) if isinstance(outputs, NUMBER) else tensor_of(outputs)
    if found.is_complex():
        raise TypeError(f"forward_func must return real numbers, not {found.dtype}")
    return found


# ---------------------------------------------------------------- examples as images


@dataclass(frozen=True)
class Examples:
    """What is explained by one fit each: every example by itself, or all of them together.

    Attributes
    ----------
    inputs : tuple of torch.Tensor
        The examples along the first axis of each.
    baselines : tuple
        Numbers, or tensors that broadcast to the inputs.
    masks : tuple of torch.Tensor
        Ids of features, which broadcast to the inputs.
    features : int
        How many ids there are, from 0 on; some may have no place.
    is_tuple : bool
        Whether functions of the user's see tuples.
    one_by_one : bool
        Whether each example has a fit.
    """

    inputs: tuple[torch.Tensor, ...]
    baselines: tuple[Any, ...]
    masks: tuple[torch.Tensor, ...]
    features: int
    is_tuple: bool
    one_by_one: bool

    def __len__(self) -> int:
        return len(self.inputs[0]) if self.one_by_one else 1

    def _part(self, values: Any, i: int) -> Any:
        """Return what belongs to fit i of a tensor along whose first axis the examples are, or of a number."""
        if not self.one_by_one or not isinstance(values, torch.Tensor) or values.ndim == 0 or len(values) == 1:
            return values
        return values[i : i + 1]

    def parts(self, tensors: tuple[Any, ...], i: int) -> Any:
        """Return what belongs to fit i as users see it: a tuple, or the only entry."""
        found = tuple(self._part(one, i) for one in tensors)
        return found if self.is_tuple else found[0]

    @property
    def dtype(self) -> torch.dtype:
        """What holds all values exactly."""
        return torch.float32 if all(one.dtype in _KEPT_IN_FLOAT32 for one in self.inputs) else torch.float64

    @property
    def sizes(self) -> list[int]:
        """How many values of a sample come from each input."""
        return [one.numel() // len(self) for one in self.inputs]

    def _line(self, tensors: tuple[Any, ...], i: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the values of fit i behind each other, as an image (1, 1, values)."""
        device = self.inputs[0].device
        values = []
        for one, of in zip(tensors, self.inputs, strict=True):
            part = torch.as_tensor(self._part(one, i), dtype=dtype, device=device)
            values.append(part.expand(self._part(of, i).shape).reshape(-1))
        return (values[0] if len(values) == 1 else torch.cat(values)).reshape(1, 1, -1)

    def images(self) -> list[HSI]:
        """Return the examples as images of one row."""
        return [HSI(image=self._line(self.inputs, i, self.dtype), wavelengths=[1.0]) for i in range(len(self))]

    def image_baselines(self) -> list[Any]:
        """Return the baselines as images of one row, or numbers."""
        if not any(isinstance(one, torch.Tensor) for one in self.baselines) and len(set(self.baselines)) == 1:
            return [float(self.baselines[0])] * len(self)
        return [self._line(self.baselines, i, self.dtype) for i in range(len(self))]

    def image_features(self, images: list[HSI]) -> Features:
        """Return the features of the images."""
        shared = all(len(mask) == 1 for mask in self.masks)
        first = self._line(self.masks, 0, torch.int64)
        masks = [first if shared or i == 0 else self._line(self.masks, i, torch.int64) for i in range(len(self))]
        return read_features(masks, images, "feature_mask", HSIAttributes)

    def spread(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return coefficients (fits, features) at the places of their features, in tensors like the inputs."""
        found = []
        for mask, of in zip(self.masks, self.inputs, strict=True):
            ids = mask.to(coefficients.device).expand(of.shape)
            own = (
                torch.arange(len(of), device=ids.device) if self.one_by_one else torch.zeros(len(of), dtype=torch.int64)
            )
            rows = own.to(ids.device).reshape(-1, *(1,) * (of.ndim - 1)).expand(of.shape)
            found.append(coefficients[rows, ids])
        return tuple(found)


class _TensorModel(ExplainableModel):
    """A model on tensors of any shape, as one on images of one row."""

    def __init__(self, forward_func: Callable[..., Any], examples: Examples) -> None:
        self.function = forward_func
        self.examples = examples
        self.floating = self._floating()
        super().__init__(self._forward, "regression")

    def _floating(self) -> torch.dtype | None:
        """Return the floating dtype that all parameters share, which inputs of others are converted to."""
        own = ExplainableModel(self.function, "regression").dtypes
        return next(iter(own)) if len(own) == 1 else None

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """The networks of the model."""
        return modules_of(self.function)

    @property
    def dtypes(self) -> frozenset[torch.dtype]:
        """None: the model gets inputs in their own dtypes, not in that of the images."""
        return frozenset()

    def _forward(self, batch: torch.Tensor, *arguments: Any) -> torch.Tensor:
        inputs = []
        for values, of in zip(torch.split(batch.flatten(1), self.examples.sizes, 1), self.examples.inputs, strict=True):
            dtype = self.floating if self.floating is not None and of.is_floating_point() else of.dtype
            inputs.append(values.reshape(-1, *of.shape[1:]).to(dtype))
        return call_forward(self.function, inputs, arguments)


class TensorLime(Lime):
    """`attr.Lime` on examples; the other arguments are its own."""

    def __init__(self, forward_func: Callable[..., Any], examples: Examples, *arguments: Any) -> None:
        super().__init__(_TensorModel(forward_func, examples), *arguments)
        self.examples = examples

    @classmethod
    def get_name(cls) -> str:
        """Return the name of the method."""
        return "Lime"

    def fit(self, target: Any, n_samples: int, settings: RunSettings) -> tuple[torch.Tensor, list[float]]:
        """Return coefficients (fits, features), 0 for features without a place, and the score of each fit."""
        images = self.examples.images()
        features = self.examples.image_features(images)
        game = Game(images, features, target, False, self.examples.image_baselines(), settings)
        results = self._explain(game, n_samples, None, False)
        results = results if isinstance(results, list) else [results]
        coefficients = torch.zeros(len(results), self.examples.features, dtype=torch.float64)
        for row, result in zip(coefficients, results, strict=True):
            row[result.effects.ids] = result.effects.values
        return coefficients, [result.score for result in results]

    def _question(self, game: Game, i: int, baseline: Any) -> Question:
        examples = self.examples
        inputs, masks = examples.parts(examples.inputs, i), examples.parts(examples.masks, i)
        arguments = {
            "baselines": examples.parts(examples.baselines, i),
            "feature_mask": masks,
            "num_interp_features": examples.features,
        }

        def perturbed(sample: torch.Tensor) -> Any:
            return interpolate(sample, inputs, masks, arguments["baselines"])

        return Question(inputs, arguments, perturbed, np.asarray(game.features.ids[i]))
