"""Between inputs and their interpretable features: groups of values that a sample keeps or drops."""

from __future__ import annotations

from typing import Any

import torch

from meteors_c.attr._segment_ids import whole_number_ids

__all__ = [
    "construct_feature_mask",
    "default_from_interp_rep_transform",
    "default_perturb_func",
    "get_mask_from_interp_rep_transform",
    "interpolate",
    "kept",
]


def construct_feature_mask(feature_mask: Any, formatted_inputs: Any) -> tuple[tuple[torch.Tensor, ...], int]:
    """Return the ids of the features of each input, from 0 on, and how many there are.

    Parameters
    ----------
    feature_mask : torch.Tensor, tuple of torch.Tensor or None
        For each input whole numbers that broadcast to it; an id that stands in several inputs is one feature. None:
        every value of an example is a feature, in the order of the inputs.
    formatted_inputs : tuple of torch.Tensor
        The inputs, with the examples along their first axis.

    Returns
    -------
    feature_mask : tuple of torch.Tensor
        Ids as int64, on the device of their inputs, lowered or raised by one number so that the smallest is 0. Ids
        without a place stay: those of ``[3, 5]`` become ``[0, 2]``.
    num_interp_features : int
        One more than the largest id.

    Raises
    ------
    TypeError, ValueError
        If ids are no whole numbers, a mask does not broadcast to its input, or there are not as many masks as inputs.

    Examples
    --------
    >>> construct_feature_mask(None, (torch.ones(1, 2), torch.ones(1, 3)))
    ((tensor([[0, 1]]), tensor([[2, 3, 4]])), 5)
    """
    inputs = formatted_inputs if isinstance(formatted_inputs, tuple) else (formatted_inputs,)
    if feature_mask is None:
        ids, count = [], 0
        for one in inputs:
            values = one[:1].numel()
            ids.append(torch.arange(count, count + values, device=one.device).reshape(1, *one.shape[1:]))
            count += values
        return tuple(ids), count
    given = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    if len(given) != len(inputs):
        raise ValueError(f"feature_mask must have a tensor for each of {len(inputs)} inputs, not {len(given)}")
    read = [_mask_of(mask, one) for mask, one in zip(given, inputs, strict=True)]
    least = min(int(mask.min()) for mask in read)
    ids = [mask - least for mask in read]
    return tuple(ids), max(int(mask.max()) for mask in ids) + 1


def _mask_of(mask: Any, of: torch.Tensor) -> torch.Tensor:
    ids = whole_number_ids(mask, "feature_mask")
    axes = of.ndim - ids.ndim
    if axes < 0 or any(size not in (1, wanted) for size, wanted in zip(ids.shape, of.shape[axes:], strict=True)):
        raise ValueError(
            f"feature_mask must broadcast to its input, of shape {tuple(of.shape)}, which shape {tuple(ids.shape)} "
            "does not"
        )
    return ids.reshape(*(1,) * axes, *ids.shape).to(of.device)


def default_perturb_func(original_inp: Any, **kwargs: Any) -> torch.Tensor:
    """Return a sample: each feature is kept or not with the same probability, by torch's random numbers.

    Parameters
    ----------
    original_inp : torch.Tensor or tuple of torch.Tensor
        What is explained; tells the device.
    **kwargs
        ``num_interp_features``, how many features there are; all else is ignored.

    Returns
    -------
    torch.Tensor
        ``(1, num_interp_features)`` of int64, 0 and 1.

    Raises
    ------
    AssertionError
        Without ``num_interp_features``.

    Examples
    --------
    >>> sample = default_perturb_func(torch.ones(1, 8), num_interp_features=3)
    >>> sample.shape, set(sample[0].tolist()) <= {0, 1}
    (torch.Size([1, 3]), True)
    """
    features = _needed(kwargs, "num_interp_features", "default_perturb_func")
    first = original_inp[0] if isinstance(original_inp, tuple | list) else original_inp
    return torch.randint(2, (1, features), device=first.device)


def get_mask_from_interp_rep_transform(curr_sample: torch.Tensor, **kwargs: Any) -> Any:
    """Return which values of the inputs a sample keeps.

    Parameters
    ----------
    curr_sample : torch.Tensor
        ``(1, features)``: 0 drops a feature, anything else keeps it.
    **kwargs
        ``feature_mask``, a tensor or tuple of tensors of the features' ids; all else is ignored.

    Returns
    -------
    torch.Tensor or tuple of torch.Tensor
        Bools of the shape of the mask.

    Raises
    ------
    AssertionError
        Without ``feature_mask``.

    Examples
    --------
    >>> get_mask_from_interp_rep_transform(torch.tensor([[1, 0]]), feature_mask=torch.tensor([[0, 1, 1]]))
    tensor([[ True, False, False]])
    """
    return kept(curr_sample, _needed(kwargs, "feature_mask", "get_mask_from_interp_rep_transform"))


def default_from_interp_rep_transform(curr_sample: torch.Tensor, original_inputs: Any, **kwargs: Any) -> Any:
    """Return the inputs with the baselines in place of the features that a sample drops.

    Parameters
    ----------
    curr_sample : torch.Tensor
        ``(1, features)``: 0 drops a feature, anything else keeps it.
    original_inputs : torch.Tensor or tuple of torch.Tensor
        What is explained.
    **kwargs
        ``feature_mask`` and ``baselines``, each a tuple where the inputs are one; all else is ignored.

    Returns
    -------
    torch.Tensor or tuple of torch.Tensor
        Like the inputs, of their dtypes. Values are selected, so what is dropped leaves no trace, NaN included.

    Raises
    ------
    AssertionError
        Without ``feature_mask`` or ``baselines``.

    Examples
    --------
    >>> sample, mask = torch.tensor([[1, 0]]), torch.tensor([[0, 1, 1]])
    >>> default_from_interp_rep_transform(sample, torch.tensor([[5.0, 6.0, 7.0]]), feature_mask=mask, baselines=0)
    tensor([[5., 0., 0.]])
    """
    mask = _needed(kwargs, "feature_mask", "default_from_interp_rep_transform")
    return interpolate(
        curr_sample, original_inputs, mask, _needed(kwargs, "baselines", "default_from_interp_rep_transform")
    )


def _needed(arguments: dict[str, Any], name: str, function: str) -> Any:
    if name not in arguments:
        raise AssertionError(f"{function} needs the keyword argument {name}")  # as users of meteors expect
    return arguments[name]


def kept(sample: torch.Tensor, feature_mask: Any) -> Any:
    """Return which values a sample (1, features) keeps: bools of the shape of the mask, a tuple for a tuple."""
    if isinstance(feature_mask, tuple):
        return tuple(kept(sample, mask) for mask in feature_mask)
    return sample.reshape(-1).bool().to(feature_mask.device)[feature_mask.long()]


def interpolate(sample: torch.Tensor, inputs: Any, feature_mask: Any, baselines: Any) -> Any:
    """Return inputs with the baselines where a sample (1, features) does not keep them; selected, never computed."""
    if isinstance(inputs, tuple):
        return tuple(interpolate(sample, *one) for one in zip(inputs, feature_mask, baselines, strict=True))
    missing = torch.as_tensor(baselines, dtype=inputs.dtype, device=inputs.device)
    return torch.where(kept(sample, feature_mask).to(inputs.device), inputs, missing)
