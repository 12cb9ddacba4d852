"""LIME on tensors: how models and functions of users are called, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr.lime_base import (
    Lime,
    default_from_interp_rep_transform,
    get_exp_kernel_similarity_function,
)
from meteors_c.models import SkLearnRidge
from tests.attr.tensors import (
    ONE,
    WEIGHTS,
    MeanDifference,
    X,
    base,
    close,
    every_sample,
    least_squares,
    linear,
    two_outputs,
)

# ---------------------------------------------------------------- Lime: calls


def test_no_batch_is_larger_than_asked_and_no_sample_evaluated_twice() -> None:
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        seen.append(len(x))
        return linear(x)

    Lime(model).attribute(ONE, n_samples=500)
    assert set(seen) == {1}
    assert len(seen) <= 8
    seen.clear()
    Lime(model).attribute(ONE, n_samples=500, perturbations_per_eval=3)
    assert max(seen) <= 3


def test_one_number_for_a_batch_is_one_fit() -> None:
    seen = []

    def loss(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape)
        return linear(x).sum()

    found, score = Lime(loss, least_squares()).attribute(X, n_samples=60)
    close(found, (X * WEIGHTS).sum(0).expand(2, 3))
    assert score.shape == ()
    assert set(seen) == {(2, 3)}
    found, _ = Lime(loss, least_squares()).attribute(X, n_samples=60, return_input_shape=False)
    close(found, (X * WEIGHTS).sum(0, keepdim=True))
    masks = torch.tensor([[0, 1, 1], [2, 2, 3]])
    found, _ = Lime(loss, least_squares()).attribute(X, feature_mask=masks, n_samples=100)
    close(found, [[1.0, 8.0, 8.0], [-6.0, -6.0, 24.0]])
    with pytest.raises(ValueError, match="perturbations_per_eval"):
        Lime(loss).attribute(X, perturbations_per_eval=2)


@pytest.mark.parametrize(
    "model", [lambda x: linear(x).sum(), lambda x: float(linear(x).sum()), lambda x: linear(x)[:, None]]
)
def test_one_number_in_other_forms(model: Callable[..., Any]) -> None:
    found, _ = Lime(model, least_squares()).attribute(ONE, n_samples=60)
    close(found, [[1.0, -4.0, 12.0]])


def test_arguments_after_the_inputs() -> None:
    scales, other = torch.tensor([[1.0], [10.0]]), torch.ones(5)
    seen = []

    def model(x: torch.Tensor, scale: torch.Tensor, number: float, rest: torch.Tensor) -> torch.Tensor:
        seen.append((len(x), tuple(scale.shape), number, tuple(rest.shape)))
        return linear(x) * scale[:, 0]

    found, _ = Lime(model, least_squares()).attribute(
        X, additional_forward_args=(scales, 3.0, other), n_samples=60, perturbations_per_eval=4
    )
    close(found, X * WEIGHTS * scales)
    assert all(one == (one[0], (one[0], 1), 3.0, (5,)) for one in seen)
    seen.clear()
    found, _ = Lime(model, least_squares()).attribute(
        ONE, additional_forward_args=(scales[1:], 3.0, mt.attr.AsIs(other[:1])), n_samples=60, perturbations_per_eval=4
    )
    close(found, ONE * WEIGHTS * 10)
    assert all(one == (one[0], (one[0], 1), 3.0, (1,)) for one in seen)
    given = (mt.attr.PerImage([[1.0], [10.0]]), 3.0, mt.attr.AsIs(other[:2]))
    found, _ = Lime(model, least_squares()).attribute(X, additional_forward_args=given, n_samples=60)
    close(found, X * WEIGHTS * scales)
    with pytest.raises(ValueError, match="additional_forward_args"):
        Lime(model).attribute(ONE, additional_forward_args=given)


def test_progress_is_told() -> None:
    told = []
    Lime(linear).attribute(ONE, n_samples=30, show_progress=lambda done, total: told.append((done, total)))
    assert told
    assert told[-1][0] == told[-1][1]
    told.clear()
    show = {"perturbations_per_eval": 4, "show_progress": lambda done, total: told.append((done, total))}
    base(linear).attribute(ONE, n_samples=10, **show)
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_inputs_stay_as_they_were() -> None:
    inputs = X.clone().requires_grad_()
    before = inputs.detach().clone()
    found, _ = Lime(lambda x: linear(x.mul_(2))).attribute(inputs, n_samples=20)
    assert torch.equal(inputs, before)
    assert not found.requires_grad


def test_what_functions_of_the_users_are_told() -> None:
    told: list[tuple[Any, ...]] = []

    def similarity(original: Any, perturbed: Any, sample: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        told.append((original, perturbed, sample, kwargs))
        return torch.tensor(1.0)

    def perturb(original: Any, **kwargs: Any) -> torch.Tensor:
        told.append((original, None, None, kwargs))
        return torch.randint(2, (1, kwargs["num_interp_features"]))

    masks = torch.tensor([[0, 1, 1], [2, 2, 3]])
    Lime(linear, SkLearnRidge(), similarity, perturb).attribute(X, 2 * X, feature_mask=masks, n_samples=5)
    assert len(told) == 20
    for original, perturbed, sample, kwargs in told:
        i = 0 if torch.equal(original, X[:1]) else 1
        assert torch.equal(original, X[i : i + 1])
        assert torch.equal(kwargs["feature_mask"], masks[i : i + 1])
        assert torch.equal(kwargs["baselines"], 2 * X[i : i + 1])
        assert kwargs["num_interp_features"] == 4
        assert kwargs.keys() == {"feature_mask", "baselines", "num_interp_features"}
        if sample is not None:
            assert sample.shape == (1, 4)
            assert torch.equal(perturbed, default_from_interp_rep_transform(sample, original, **kwargs))


def test_functions_are_told_tuples_of_tuples_and_all_examples_of_one_fit() -> None:
    told: list[tuple[Any, ...]] = []

    def similarity(original: Any, perturbed: Any, sample: torch.Tensor, **kwargs: Any) -> float:
        told.append((original, perturbed, sample, kwargs))
        return 1.0

    Lime(lambda a, b: (linear(a) + linear(b)).sum(), SkLearnRidge(), similarity).attribute((X, X.float()), n_samples=4)
    for original, perturbed, sample, kwargs in told:
        assert torch.equal(original[0], X)
        assert [one.dtype for one in perturbed] == [torch.float64, torch.float32]
        assert kwargs["baselines"] == (0, 0)
        assert [one.tolist() for one in kwargs["feature_mask"]] == [[[0, 1, 2]], [[3, 4, 5]]]
        assert sample.shape == (1, 6)


def test_weights_decide_between_samples() -> None:
    """Of a product only the samples that keep the second feature count: there, the first one has all the effect."""

    def similarity(original: Any, perturbed: Any, sample: torch.Tensor, **kwargs: Any) -> float:
        return float(sample[0, 1])

    lime = Lime(lambda x: x[:, 0] * x[:, 1], least_squares(), similarity, every_sample)
    found, score = lime.attribute(ONE, n_samples=16)
    close(found, [[2.0, 0.0, 0.0]])
    assert score < 1


def test_kernels_of_the_core_are_those_of_the_function() -> None:
    for kernel in (get_exp_kernel_similarity_function(), get_exp_kernel_similarity_function("euclidean", 3.0)):

        def own(*arguments: Any, kernel: Any = kernel, **kwargs: Any) -> float:
            return float(kernel(*arguments))

        def model(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (linear(a) + b.sum(1)) ** 2

        inputs, mask = (X, torch.ones(2, 2)), (torch.tensor([[0, 1, 2]]), torch.tensor([[3, 0]]))
        results = [
            Lime(model, least_squares(), similarity, every_sample).attribute(
                inputs, (0.5, 2), feature_mask=mask, n_samples=16, return_input_shape=False
            )
            for similarity in (kernel, own)
        ]
        close(results[0][0], results[1][0], atol=1e-6)
        close(results[0][1], results[1][1])


def test_a_generator_that_ends_warns() -> None:
    def perturb(original: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
        yield from [torch.tensor([[k & 1, k >> 1 & 1, k >> 2]]) for k in range(8)]

    with pytest.warns(UserWarning, match="8 of 30"):
        found, _ = Lime(linear, least_squares(), perturb_func=perturb).attribute(ONE, n_samples=30)
    close(found, [[1.0, -4.0, 12.0]])


def test_a_model_of_the_users() -> None:
    model = MeanDifference()
    lime = Lime(lambda x: 7 + linear(x), model, lambda *_, **__: 0.5, every_sample)
    found, score = lime.attribute(ONE, n_samples=8)
    close(found, [[1.0, -4.0, 12.0]], atol=1e-5)
    assert score < 1  # it has no intercept
    assert (model.x.dtype, model.y.dtype, model.weight.dtype) == (torch.float32,) * 3
    assert (model.x.shape, model.y.shape, model.weight.shape) == ((8, 3), (8,), (8,))
    assert (model.weight == 0.5).all()


def test_a_narrow_kernel_does_not_vanish() -> None:
    kernel = get_exp_kernel_similarity_function("euclidean", kernel_width=1e-3)
    with pytest.warns(UserWarning, match="effective|samples"):
        found, _ = Lime(linear, SkLearnRidge(), kernel).attribute(ONE, n_samples=30)
    assert found.isfinite().all()


# ---------------------------------------------------------------- Lime: errors


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"inputs": [[1.0]]}, TypeError, "inputs"),
        ({"inputs": ()}, TypeError, "inputs"),
        ({"inputs": torch.tensor(1.0)}, ValueError, "inputs"),
        ({"inputs": (X, ONE)}, ValueError, "inputs"),
        ({"inputs": X[:0]}, ValueError, "inputs"),
        ({"inputs": X.to(torch.complex64)}, TypeError, "inputs"),
        ({"inputs": torch.tensor([[1.0, math.nan, 2.0]])}, ValueError, "inputs"),
        ({"baselines": math.inf}, ValueError, "baselines"),
        ({"baselines": "mean"}, TypeError, "baselines"),
        ({"baselines": (0, 0)}, ValueError, "baselines"),
        ({"baselines": torch.zeros(3, 3)}, ValueError, "baselines"),
        ({"baselines": torch.zeros(2)}, ValueError, "baselines"),
        ({"inputs": X.int(), "baselines": 0.5}, ValueError, "baselines"),
        ({"inputs": X.half(), "baselines": 1e6}, ValueError, "baselines"),
        ({"feature_mask": torch.zeros(1, 2)}, ValueError, "feature_mask"),
        ({"n_samples": 0}, ValueError, "n_samples"),
        ({"n_samples": "auto"}, TypeError, "n_samples"),
        ({"perturbations_per_eval": 0}, ValueError, "perturbations_per_eval"),
        ({"perturbations_per_eval": None}, TypeError, "perturbations_per_eval"),
        ({"target": None}, ValueError, "target"),
        ({"target": 2}, IndexError, "target"),
        ({"target": "all"}, TypeError, "target"),
        ({"target": [0, 0, 0]}, ValueError, "target"),
    ],
)
def test_arguments_that_can_not_be_used(arguments: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        Lime(two_outputs).attribute(**{"inputs": X, "target": 0, **arguments})


@pytest.mark.parametrize(
    ("functions", "error", "word"),
    [
        ({"perturb_func": lambda x, **_: torch.ones(1, 2)}, ValueError, "perturb_func"),
        ({"perturb_func": lambda x, **_: torch.full((1, 3), 0.5)}, ValueError, "perturb_func"),
        ({"perturb_func": lambda x, **_: iter(())}, ValueError, "perturb_func"),
        ({"similarity_func": lambda *_, **__: -1.0}, ValueError, "similarity_func"),
        ({"similarity_func": lambda *_, **__: 0}, ValueError, "similarity_func"),
        ({"similarity_func": lambda *_, **__: math.nan}, ValueError, "similarity_func"),
        ({"similarity_func": lambda *_, **__: 1e-80, "interpretable_model": MeanDifference()}, ValueError, "float32"),
    ],
)
def test_functions_that_give_what_can_not_be_used(functions: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        Lime(linear, **functions).attribute(ONE, n_samples=5)


def test_things_of_another_type() -> None:
    with pytest.raises(TypeError, match="forward_func"):
        Lime(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="interpretable_model"):
        Lime(linear, nn.Linear(3, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="similarity_func"):
        Lime(linear, similarity_func=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="real"):
        Lime(lambda x: torch.complex(linear(x), linear(x))).attribute(ONE)

    class Odd(MeanDifference):
        def get_representation(self) -> Any:
            return {"any": 1}

    with pytest.raises(TypeError, match="representation"):
        Lime(linear, Odd()).attribute(ONE)
