"""What a model answered, reduced to the one tensor that is explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["array_of", "tensor_of"]

_BY_NAME = ("logits", "out")  # transformers and torchvision put the answer itself under these names
_NAMED = 6


def tensor_of(answer: Any) -> torch.Tensor:
    """Return the tensor that a model's answer is, or holds.

    Parameters
    ----------
    answer : Any
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
    """
    found = _pick(answer, torch.Tensor)
    if found is None:
        raise TypeError(
            f"the model must return a torch.Tensor, not {_described(answer)}: give ExplainableModel a "
            "postprocessing_output, a function that makes a tensor of it"
        )
    return found


def array_of(answer: Any, samples: int) -> Any:
    """Return the array that the answer of a model on arrays is, or holds; lists of numbers are left to NumPy.

    Parameters
    ----------
    answer : Any
        What the model returned for so many samples.
    samples : int
        The length of a list's only array, if it is the answer rather than one of its rows.

    Returns
    -------
    Any
        What NumPy can turn into an array.

    Raises
    ------
    TypeError
        If the answer has named fields and none of them tells which array is meant.
    """
    if isinstance(answer, np.ndarray | torch.Tensor):
        return answer
    entries = _entries(answer)
    found = _pick(answer, np.ndarray)
    if isinstance(answer, list | tuple) and not hasattr(answer, "_fields"):
        return found if len(entries) == 1 and found is not None and found.ndim and len(found) == samples else answer
    if found is not None:
        return found
    if not entries:
        return answer
    raise TypeError(
        f"the model must return an array of numbers, not {_described(answer)}: give ExplainableModel a "
        "postprocessing_output, a function that makes an array of it"
    )


def _entries(answer: Any) -> dict[str, Any]:
    """Return what a container holds, by name or position; nothing for other objects."""
    if isinstance(answer, Mapping):
        return {str(name): value for name, value in answer.items()}
    if isinstance(answer, list | tuple):
        return dict(zip(getattr(answer, "_fields", map(str, range(len(answer)))), answer, strict=True))
    if is_dataclass(answer) and not isinstance(answer, type):
        return {field.name: getattr(answer, field.name, None) for field in fields(answer)}
    return {}


def _inside(answer: Any, kind: type) -> Iterator[Any]:
    """Yield every value of a kind that an answer is or holds, at any depth."""
    if isinstance(answer, kind):
        yield answer
    else:
        for value in _entries(answer).values():
            yield from _inside(value, kind)


def _pick(answer: Any, kind: type) -> Any:
    """Return the one value of a kind that an answer stands for, or None."""
    if isinstance(answer, kind):
        return answer
    entries = _entries(answer)
    named = [entries.get(name) for name in _BY_NAME] + [None if entries else getattr(answer, "logits", None)]
    held = next((value for value in named if isinstance(value, kind)), None)
    if held is None:
        found = list(_inside(answer, kind))
        held = found[0] if len(found) == 1 else None
    return held


def _described(answer: Any) -> str:
    """Return an answer in words: its type, and what it holds under which names."""
    entries = _entries(answer)
    if not entries:
        return f"a {type(answer).__name__}"
    words = [f"{name} ({_shortly(value)})" for name, value in list(entries.items())[:_NAMED]]
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return f"a {type(answer).__name__} of {', '.join(words)}{more}"[:300]


def _shortly(value: Any) -> str:
    shape = f" {tuple(value.shape)}" if isinstance(value, torch.Tensor | np.ndarray) else ""
    return f"{type(value).__name__}{shape}"
