"""LimeBase: samples and features of your own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from meteors_c.attr import lime_base
from meteors_c.attr.lime_base import (
    Lime,
    LimeBase,
    default_from_interp_rep_transform,
    default_perturb_func,
)
from tests.attr.tensors import (
    ONE,
    WEIGHTS,
    MeanDifference,
    X,
    alike,
    base,
    close,
    linear,
    noise,
    two_outputs,
)

# ---------------------------------------------------------------- LimeBase


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_noise_recovers_weights(limit: int) -> None:
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        seen.append(len(x))
        return two_outputs(x)

    found, score = base(model).attribute(ONE, target=0, n_samples=20, perturbations_per_eval=limit)
    close(found, WEIGHTS[None], atol=1e-5)
    assert score == pytest.approx(1.0)
    assert score.shape == ()
    assert sum(seen) == 20
    assert max(seen) <= limit


def test_samples_of_features_become_inputs() -> None:
    told = []

    def scaled(sample: torch.Tensor, original: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        told.append(kwargs)
        return original * sample

    def similarity(original: Any, perturbed: Any, sample: Any, **kwargs: Any) -> torch.Tensor:
        assert torch.equal(perturbed, original * sample)
        told.append(kwargs)
        return torch.tensor([[0.5]])

    lime = base(
        linear,
        perturb_func=lambda original, **kwargs: told.append(kwargs) or torch.rand(1, 3),
        perturb_interpretable_space=True,
        from_interp_rep_transform=scaled,
        to_interp_rep_transform=None,
        similarity_func=similarity,
    )
    found, _ = lime.attribute(ONE, n_samples=20, width=3)
    close(found, ONE * WEIGHTS, atol=1e-4)
    assert told == [{"width": 3}] * 60


def test_weights_of_samples_in_the_fit() -> None:
    """Noise of the first feature alone counts only where it is positive; there the model has another slope."""
    found, _ = base(
        lambda x: torch.where(x[:, 0] > 0, 5 * x[:, 0], x[:, 0]),
        similarity_func=lambda original, perturbed, sample, **_: float(perturbed[0, 0] > 0),
    ).attribute(torch.zeros(1, 2, dtype=torch.float64), n_samples=100)
    close(found, [[5.0, 0.0]], atol=1e-5)


def test_tuples_and_arguments() -> None:
    seen = []

    def model(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, name: str) -> torch.Tensor:
        seen.append((tuple(scale.shape), name))
        return (linear(a) + b.sum(1)) * scale[:, 0]

    found, _ = base(model, to_interp_rep_transform=lambda sample, original, **_: torch.cat(sample, 1)).attribute(
        (ONE, torch.ones(1, 2)), None, (torch.full((1, 4), 2.0), "x"), 40, 15
    )
    close(found, [[2.0, -4.0, 8.0, 2.0, 2.0]], atol=1e-4)
    assert seen == [((15, 4), "x"), ((15, 4), "x"), ((10, 4), "x")]


def test_one_number_for_several_examples() -> None:
    total = base(lambda x: linear(x).sum(), to_interp_rep_transform=lambda sample, original, **_: sample.sum(0))
    found, _ = total.attribute(X, n_samples=30)
    close(found, WEIGHTS[None], atol=1e-5)
    with pytest.raises(ValueError, match="perturbations_per_eval"):
        total.attribute(X, n_samples=30, perturbations_per_eval=2)
    with pytest.raises(ValueError, match="forward_func"):
        base(linear).attribute(X, n_samples=30)


def test_a_large_offset_in_input_space() -> None:
    found, score = base(lambda x: 1e8 + linear(x)).attribute(ONE, n_samples=30)
    close(found, WEIGHTS[None], atol=1e-5)
    assert score == pytest.approx(1.0)


def test_any_surrogate_and_any_representation() -> None:
    class Anything(MeanDifference):
        def get_representation(self) -> Any:
            return {"rows": len(self.x)}

    model = Anything()
    with pytest.warns(UserWarning, match="5 of 20"):
        found, score = base(linear, model, perturb_func=lambda x, **_: (noise(x) for _ in range(5))).attribute(
            ONE, n_samples=20
        )
    assert found == {"rows": 5}
    left = ((model.y - model(model.x)) ** 2).sum()
    assert score == pytest.approx(float(1 - left / ((model.y - model.y.mean()) ** 2).sum()), rel=1e-4)
    assert (model.x.shape, model.x.dtype) == ((5, 3), torch.float32)


def test_base_of_all_is_described() -> None:
    lime = Lime(linear)
    assert isinstance(lime, LimeBase)
    assert (LimeBase.get_name(), Lime.get_name()) == ("Lime Base", "Lime")
    assert not LimeBase.has_convergence_delta(lime)
    assert not lime.multiplies_by_inputs
    assert base(linear).multiplies_by_inputs is False
    assert lime.perturb_func is default_perturb_func
    assert lime.from_interp_rep_transform is default_from_interp_rep_transform
    assert lime.perturb_interpretable_space
    assert lime.to_interp_rep_transform is None
    assert {"Lime", "LimeBase"} <= set(lime_base.__all__)


@pytest.mark.parametrize("is_features", [True, False])
def test_a_transform_that_is_missing(is_features: bool) -> None:
    with pytest.raises(AssertionError, match="from_interp" if is_features else "to_interp"):
        base(linear, perturb_interpretable_space=is_features, to_interp_rep_transform=None)


@pytest.mark.parametrize(
    ("functions", "word"),
    [
        ({"similarity_func": lambda *_, **__: -1.0}, "similarity_func"),
        ({"similarity_func": lambda *_, **__: 0.0}, "similarity_func"),
        ({"to_interp_rep_transform": lambda sample, *_, **__: sample[:, : int(torch.randint(1, 4, ()))]}, "features"),
        ({"to_interp_rep_transform": lambda sample, *_, **__: sample / 0}, "features"),
        ({"perturb_func": lambda original, **_: torch.cat([original, original])}, "forward_func"),
        ({"perturb_func": lambda original, **_: original * math.nan, "to_interp_rep_transform": alike}, "forward_func"),
        ({"perturb_func": lambda original, **_: iter(())}, "perturb_func"),
    ],
)
def test_functions_of_the_base_that_give_what_can_not_be_used(functions: dict[str, Any], word: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=word):
        base(linear, **functions).attribute(ONE, n_samples=20)


def test_errors_of_the_model_come_through() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise KeyError("mine")

    for lime in (Lime(broken), base(broken)):
        with pytest.raises(KeyError, match="mine"):
            lime.attribute(ONE)
