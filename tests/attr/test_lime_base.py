"""LIME on tensors: its functions, and linear models that are recovered, whatever the examples, tuples and groups."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr.lime_base import (
    Lime,
    construct_feature_mask,
    default_from_interp_rep_transform,
    default_perturb_func,
    get_exp_kernel_similarity_function,
    get_mask_from_interp_rep_transform,
)
from meteors_c.models import SkLearnLasso
from tests.attr.tensors import (
    ONE,
    WEIGHTS,
    X,
    close,
    every_sample,
    least_squares,
    linear,
    two_outputs,
)
from tests.toys import PATHS

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
