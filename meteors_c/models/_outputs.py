"""What a model returned, reduced to the one tensor or array that is explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["array_of", "tensor_of"]

_FIELDS = ("logits", "out")  # the names that transformers and torchvision give to the output proper
_MAX_DESCRIBED = 6  # entries of a container that an error names


def tensor_of(output: Any) -> torch.Tensor:
    """Return the tensor that a model's output is, or holds.

    Parameters
    ----------
    output : Any
        A tensor; a tuple, list, dict or dataclass with one tensor in it, or with a field ``logits`` or ``out``; any
        object with an attribute ``logits``.

    Returns
    -------
    torch.Tensor
        That tensor.

    Raises
    ------
    TypeError
        If there is none, or several and no field says which; the message names what came.

    Examples
    --------
    >>> tensor_of({"loss": torch.tensor(0.5), "logits": torch.ones(2)})
    tensor([1., 1.])
    """
    found = _pick(output, torch.Tensor)
    if found is None:
        raise TypeError(
            f"the model must return a torch.Tensor, not {_described(output)}: give ExplainableModel a "
            "postprocessing_output, a function that makes a tensor of it"
        )
    return found


def array_of(output: Any, samples: int) -> Any:
    """Return the array that the output of a model on arrays is, or holds; lists of numbers are left to NumPy.

    Parameters
    ----------
    output : Any
        What the model returned for so many samples.
    samples : int
        The only array in a list is the output if it has this length; otherwise it is one row of the output.

    Returns
    -------
    Any
        What NumPy can turn into an array.

    Raises
    ------
    TypeError
        If the output has named fields and none of them tells which array is meant.

    Examples
    --------
    >>> array_of({"logits": np.ones(2)}, samples=2)
    array([1., 1.])
    """
    if isinstance(output, np.ndarray | torch.Tensor):
        return output
    entries = _entries(output)
    found = _pick(output, np.ndarray)
    if isinstance(output, list | tuple) and not hasattr(output, "_fields"):
        return found if len(entries) == 1 and found is not None and found.ndim and len(found) == samples else output
    if found is not None:
        return found
    if not entries:
        return output
    raise TypeError(
        f"the model must return an array of numbers, not {_described(output)}: give ExplainableModel a "
        "postprocessing_output, a function that makes an array of it"
    )


def _entries(output: Any) -> dict[str, Any]:
    """Return what a container holds, by name or position; nothing for other objects."""
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if isinstance(output, list | tuple):
        return dict(zip(getattr(output, "_fields", map(str, range(len(output)))), output, strict=True))
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name, None) for field in fields(output)}
    return {}


def _values_of(output: Any, kind: type) -> Iterator[Any]:
    """Yield every value of a type that an output is or holds, at any depth."""
    if isinstance(output, kind):
        yield output
    else:
        for value in _entries(output).values():
            yield from _values_of(value, kind)


def _pick(output: Any, kind: type) -> Any:
    """Return the one value of a type that an output stands for, or None."""
    if isinstance(output, kind):
        return output
    entries = _entries(output)
    named = [entries.get(name) for name in _FIELDS] if entries else [getattr(output, "logits", None)]
    for value in named:
        if isinstance(value, kind):
            return value
    found = list(_values_of(output, kind))
    return found[0] if len(found) == 1 else None


def _described(output: Any) -> str:
    """Return an output in words: its type, and what it holds under which names."""
    entries = _entries(output)
    if not entries:
        return f"a {type(output).__name__}"
    words = [f"{name} ({_type_and_shape(value)})" for name, value in list(entries.items())[:_MAX_DESCRIBED]]
    more = f" and {len(entries) - _MAX_DESCRIBED} more" if len(entries) > _MAX_DESCRIBED else ""
    return f"a {type(output).__name__} of {', '.join(words)}{more}"[:300]


def _type_and_shape(value: Any) -> str:
    shape = f" {tuple(value.shape)}" if isinstance(value, torch.Tensor | np.ndarray) else ""
    return f"{type(value).__name__}{shape}"
