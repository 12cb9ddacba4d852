"""LIME on tensors: linear functions are recovered, examples, tuples and groups have their meaning, protocols hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import lime_base
from meteors_c.attr.lime_base import (
    Lime,
    LimeBase,
    construct_feature_mask,
    default_from_interp_rep_transform,
    default_perturb_func,
    get_exp_kernel_similarity_function,
    get_mask_from_interp_rep_transform,
)
from meteors_c.models import InterpretableModel, SkLearnLasso, SkLearnLinearRegression, SkLearnRidge
from tests.toys import PATHS

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


# ---------------------------------------------------------------- functions of the protocol


def test_every_value_is_a_feature_without_a_mask() -> None:
    masks, count = construct_feature_mask(None, (torch.ones(2, 3), torch.ones(2, 2, 2)))
    assert count == 7
    assert masks[0].tolist() == [[0, 1, 2]]
    assert masks[1].tolist() == [[[3, 4], [5, 6]]]


@pytest.mark.parametrize(
    ("mask", "wanted", "features"),
    [
        (torch.tensor([[0, 1, 1]]), [[0, 1, 1]], 2),
        (torch.tensor([[3, 5, 5]]), [[0, 2, 2]], 3),
        (torch.tensor([[-1, 1, 0]]), [[0, 2, 1]], 3),
        (torch.tensor([[True, False, True]]), [[1, 0, 1]], 2),
        (torch.tensor([[2.0, 1.0, 1.0]]), [[1, 0, 0]], 2),
        (torch.tensor([0, 0, 1]), [[0, 0, 1]], 2),
    ],
)
def test_ids_of_a_mask_begin_with_0(mask: torch.Tensor, wanted: list[list[int]], features: int) -> None:
    (found,), count = construct_feature_mask(mask, (ONE,))
    assert (found.tolist(), count) == (wanted, features)
    assert found.dtype is torch.int64


def test_ids_are_shared_by_the_masks_of_a_tuple() -> None:
    masks, count = construct_feature_mask((torch.tensor([[4, 5, 5]]), torch.tensor([[5, 6, 4]])), (ONE, ONE))
    assert [mask.tolist() for mask in masks] == [[[0, 1, 1]], [[1, 2, 0]]]
    assert count == 3


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ((torch.tensor([[0, 1, 1]]),) * 2, ValueError),
        (torch.tensor([[0, 1]]), ValueError),
        (torch.zeros(1, 1, 1, 3), ValueError),
        (torch.zeros(2, 3), ValueError),
        (torch.tensor([[0.5, 1, 1]]), ValueError),
        ([[0, 1, 1]], TypeError),
    ],
)
def test_a_mask_that_does_not_fit(mask: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="feature_mask"):
        construct_feature_mask(mask, (ONE,))


def test_samples_keep_each_feature_half_of_the_time() -> None:
    torch.manual_seed(0)
    sample = default_perturb_func((ONE, ONE), num_interp_features=4000, feature_mask=None)
    assert sample.shape == (1, 4000)
    assert sample.dtype is torch.int64
    assert set(sample.unique().tolist()) == {0, 1}
    assert abs(float(sample.double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(4000)


@pytest.mark.parametrize("sample", [torch.tensor([[1, 0]]), torch.tensor([[0.5, 0.0]])])
def test_a_sample_as_inputs(sample: torch.Tensor) -> None:
    mask = torch.tensor([[0, 1, 1]])
    kept = get_mask_from_interp_rep_transform(sample, feature_mask=mask, baselines=0)
    assert kept.tolist() == [[True, False, False]]
    assert kept.dtype is torch.bool
    pair = get_mask_from_interp_rep_transform(sample, feature_mask=(mask, mask))
    assert [one.tolist() for one in pair] == [[[True, False, False]]] * 2
    inputs = torch.tensor([[1.0, math.nan, 3.0]])
    found = default_from_interp_rep_transform(sample, inputs, feature_mask=mask, baselines=9)
    assert found.tolist() == [[1, 9, 9]]
    numbers = torch.tensor([[1, 2, 3]], dtype=torch.int16)
    found = default_from_interp_rep_transform(
        sample, (inputs, numbers), feature_mask=(mask, mask), baselines=(9.0, numbers * 10)
    )
    assert [one.tolist() for one in found] == [[[1, 9, 9]], [[1, 20, 30]]]
    assert found[1].dtype is torch.int16


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: default_perturb_func(ONE), "num_interp_features"),
        (lambda: get_mask_from_interp_rep_transform(torch.ones(1, 2)), "feature_mask"),
        (lambda: default_from_interp_rep_transform(torch.ones(1, 2), ONE, baselines=0), "feature_mask"),
        (lambda: default_from_interp_rep_transform(torch.ones(1, 2), ONE, feature_mask=ONE.long()), "baselines"),
    ],
)
def test_a_keyword_that_is_missing(call: Callable[[], Any], name: str) -> None:
    with pytest.raises(AssertionError, match=name):
        call()


def test_kernels_take_tuples() -> None:
    kernel = get_exp_kernel_similarity_function("euclidean", kernel_width=2.0)
    whole = kernel(torch.cat([ONE, ONE], 1), torch.cat([ONE + 1, ONE], 1), None)
    assert whole == pytest.approx(math.exp(-3 / 8))
    assert kernel((ONE, ONE), (ONE + 1, ONE), None) == pytest.approx(whole)
    assert get_exp_kernel_similarity_function()(ONE * 0, ONE, None) == pytest.approx(math.exp(-0.5))


# ---------------------------------------------------------------- Lime: mathematics


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_linear_function_is_recovered(path: str, dtype: torch.dtype) -> None:
    with mt.options(**PATHS[path]):
        found, score = Lime(linear, least_squares()).attribute(ONE.to(dtype), n_samples=60, perturbations_per_eval=7)
    close(found, [[1.0, -4.0, 12.0]], atol=1e-5 if dtype is torch.float32 else 1e-9)
    assert found.dtype is score.dtype is dtype
    assert score.shape == ()
    assert score == pytest.approx(1.0)


def test_the_default_is_a_lasso_of_its_own() -> None:
    one, other = Lime(linear), Lime(linear)
    assert one.interpretable_model is not other.interpretable_model
    by_default, _ = one.attribute(ONE, n_samples=400)
    # Over all samples alike, a Lasso on 0 and 1 makes each coefficient smaller by 4 alpha.
    flat = get_exp_kernel_similarity_function(kernel_width=1e6)
    found, _ = Lime(linear, SkLearnLasso(alpha=0.01), flat, every_sample).attribute(ONE, n_samples=80)
    close(found, [[0.96, -3.96, 11.96]], atol=1e-6)
    close(by_default, [[0.96, -3.96, 11.96]], atol=0.1)


def test_each_example_has_a_fit_and_a_score() -> None:
    found, score = Lime(lambda x: linear(x) ** 2, least_squares()).attribute(X, n_samples=200)
    assert found.shape == X.shape
    assert score.shape == (2,)
    assert ((score > 0.5) & (score < 0.999)).all()
    assert score[0] != score[1]
    found, score = Lime(linear, least_squares()).attribute(X, n_samples=60)
    close(found, X * WEIGHTS)
    close(score, [1.0, 1.0])


@pytest.mark.parametrize("target", [[0, 1], torch.tensor([0, 1])])
def test_targets_of_each_example(target: Any) -> None:
    found, _ = Lime(two_outputs, least_squares()).attribute(X, target=target, n_samples=60)
    close(found, torch.stack([X[0] * WEIGHTS, X[1]]))


@pytest.mark.parametrize("target", [1, (1,), torch.tensor(1), -1])
def test_one_target_for_all_examples(target: Any) -> None:
    found, _ = Lime(two_outputs, least_squares()).attribute(X, target=target, n_samples=60)
    close(found, X)


def test_a_target_of_several_axes() -> None:
    found, _ = Lime(lambda x: x[:, :, None] * WEIGHTS, least_squares()).attribute(ONE, target=(2, 1), n_samples=60)
    close(found, [[0.0, 0.0, -6.0]])


@pytest.mark.parametrize(
    ("baselines", "wanted"),
    [
        (None, X * WEIGHTS),
        (1, (X - 1) * WEIGHTS),
        (2 * ONE, (X - 2 * ONE) * WEIGHTS),
        (2 * X, -X * WEIGHTS),
        ((0.5,), (X - 0.5) * WEIGHTS),
        (torch.tensor([1.0, 0.0, 2.0]), (X - torch.tensor([1.0, 0.0, 2.0])) * WEIGHTS),
    ],
)
def test_what_dropped_values_take(baselines: Any, wanted: torch.Tensor) -> None:
    found, _ = Lime(linear, least_squares()).attribute(X, baselines, n_samples=60)
    close(found, wanted)


def test_numbers_for_dropped_values_arrive_exactly() -> None:
    seen = set()

    def model(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.update(a[:, 0].tolist(), b[:, 0].tolist())
        return linear(a) + linear(b)

    Lime(model).attribute((ONE, ONE), (0.1, torch.tensor(0.7, dtype=torch.float64)), n_samples=50)
    assert seen == {1.0, 0.1, 0.7}
    dropped = default_from_interp_rep_transform(torch.zeros(1, 3), ONE, feature_mask=torch.arange(3), baselines=0.1)
    assert set(dropped.flatten().tolist()) == {0.1}


def test_groups_of_values_share_a_coefficient() -> None:
    mask = torch.tensor([[0, 1, 1]])
    found, _ = Lime(linear, least_squares()).attribute(X, feature_mask=mask, n_samples=60)
    close(found, [[1.0, 8.0, 8.0], [4.0, 14.0, 14.0]])
    found, _ = Lime(linear, least_squares()).attribute(X, feature_mask=mask, n_samples=60, return_input_shape=False)
    close(found, [[1.0, 8.0], [4.0, 14.0]])


def test_ids_without_a_place_have_0_and_no_part_in_the_fit() -> None:
    lime = Lime(linear, least_squares())
    found, _ = lime.attribute(ONE, feature_mask=torch.tensor([[0, 4, 4]]), n_samples=60, return_input_shape=False)
    close(found, [[1.0, 0.0, 0.0, 0.0, 8.0]])
    assert (found[0, 1:4] == 0).all()
    masks = torch.tensor([[0, 1, 1], [2, 2, 3]])
    found, _ = lime.attribute(X, feature_mask=masks, n_samples=60, return_input_shape=False)
    close(found, [[1.0, 8.0, 0.0, 0.0], [0.0, 0.0, -6.0, 24.0]])
    found, _ = lime.attribute(X, feature_mask=masks, n_samples=60)
    close(found, [[1.0, 8.0, 8.0], [-6.0, -6.0, 24.0]])


def test_inputs_of_a_tuple_are_one_game() -> None:
    def model(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert b.shape[1:] == (2, 2)
        assert b.dtype is torch.int64
        return linear(a) + 3 * b.sum((1, 2))

    inputs = (X, torch.arange(8).reshape(2, 2, 2))
    (first, second), score = Lime(model, least_squares()).attribute(inputs, n_samples=600, perturbations_per_eval=50)
    close(first, X * WEIGHTS)
    close(second, 3.0 * inputs[1])
    assert score.shape == (2,)
    mask = (torch.tensor([[0, 1, 1]]), torch.tensor([[[0, 2], [2, 2]]]))
    found, _ = Lime(model, least_squares()).attribute(
        inputs, (0, 1), feature_mask=mask, n_samples=100, return_input_shape=False
    )
    close(found, [[1.0 - 3.0, 8.0, 3 * (1 + 2 + 3 - 3.0)], [4.0 + 9.0, 14.0, 3 * (5 + 6 + 7 - 3.0)]])


def test_a_tuple_of_one_gives_a_tuple() -> None:
    found, _ = Lime(linear, least_squares()).attribute((ONE,), n_samples=60)
    assert isinstance(found, tuple)
    close(found[0], [[1.0, -4.0, 12.0]])


@pytest.mark.parametrize("inputs", [torch.tensor([3.0, 5.0]), torch.ones(2, 2, 1, 3, 2)])
def test_inputs_of_other_numbers_of_axes(inputs: torch.Tensor) -> None:
    found, _ = Lime(lambda x: 2 * x.flatten(1).sum(1) if x.ndim > 1 else 2 * x, least_squares()).attribute(
        inputs, n_samples=200
    )
    close(found, 2 * inputs, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.uint8, torch.float32, torch.float64]
)
def test_the_model_gets_inputs_in_their_dtype(dtype: torch.dtype) -> None:
    seen = set()

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.add((x.dtype, tuple(x.shape[1:])))
        return x.double().sum((1, 2))

    found, _ = Lime(model, least_squares()).attribute(torch.tensor([[[1, 2], [3, 4]]], dtype=dtype), n_samples=100)
    close(found, [[[1.0, 2.0], [3.0, 4.0]]], atol=1e-5)
    assert seen == {(dtype, (2, 2))}


def test_large_integers_arrive_exactly() -> None:
    large = 2**53 - 1
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.extend(x.flatten().tolist())
        return x.double().sum(1)

    Lime(model, least_squares()).attribute(torch.tensor([[large, 2**24 + 1]]), n_samples=30)
    assert set(seen) == {0, large, 2**24 + 1}
    with pytest.raises(ValueError, match="inputs"):
        Lime(model).attribute(torch.tensor([[2**53 + 1]]))


def test_a_network_gets_its_own_dtype() -> None:
    network = nn.Linear(3, 1, bias=False).double().eval()
    with torch.no_grad():
        network.weight.copy_(WEIGHTS)
    found, _ = Lime(network, least_squares()).attribute(ONE.float(), n_samples=60)
    close(found, [[1.0, -4.0, 12.0]], atol=1e-5)
    assert found.dtype is torch.float32


def test_a_large_offset_costs_no_digits() -> None:
    found, score = Lime(lambda x: 1e8 + linear(x), least_squares()).attribute(ONE, n_samples=60)
    close(found, [[1.0, -4.0, 12.0]], atol=1e-5)
    assert score == pytest.approx(1.0)


def test_constant_outputs() -> None:
    for constant in (3.0, 0.1):
        found, score = Lime(lambda x, c=constant: x.sum(1) * 0 + c).attribute(ONE, n_samples=20)
        assert (found == 0).all()
        assert score == 1
    _, score = Lime(linear, least_squares()).attribute(ONE, n_samples=1)
    assert score.isnan()


def test_same_random_numbers_same_result_whatever_the_batches() -> None:
    results = []
    for limit in (1, 7, 1000):
        torch.manual_seed(3)
        found, _ = Lime(lambda x: linear(x) ** 2).attribute(X, n_samples=30, perturbations_per_eval=limit)
        results.append(found)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


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


# ---------------------------------------------------------------- LimeBase


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
