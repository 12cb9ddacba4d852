"""KernelShap: Shapley values from all coalitions, and by regression on sampled ones."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import options
from meteors_c.attr import KernelShap
from tests.attr.games import (
    additive,
    all_coalitions,
    assert_efficient,
    by_permutations,
    each_pixel,
    game_of,
    interactions_by_definition,
    play,
    random_game,
    strip,
)


def interacting(features: int, seed: int = 1) -> Any:
    """A smooth game of every order, that few coalitions do not tell."""
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randn(features, 4, generator=generator, dtype=torch.float64) / features**0.5
    return lambda z: (torch.tanh(2 * z.double() @ inner)).prod(1, keepdim=True) + (z.double() @ inner[:, :1]).exp()


# ---------------------------------------------------------------- exact values


@pytest.mark.parametrize("features", [1, 2, 3, 4, 5, 6])
def test_all_orders(features: int) -> None:
    for seed in range(5):
        game = random_game(features, outputs=2, seed=seed)
        results = play(KernelShap, game, features, target="all")
        want = by_permutations(game, features)
        for t, result in enumerate(results):
            assert result.effects.exact
            torch.testing.assert_close(result.effects.values, want[:, t], rtol=0, atol=1e-12)
            torch.testing.assert_close(result.attributes.flatten(), want[:, t], rtol=0, atol=1e-12)
            assert_efficient(result, 1e-14 * 2**features)


def test_exact_explainer_of_the_shap_package() -> None:
    shap = pytest.importorskip("shap")
    features = 8
    game = random_game(features, seed=3)
    masker = shap.maskers.Independent(np.zeros((1, features)), max_samples=1)
    exact = shap.explainers.Exact(lambda z: game(torch.from_numpy(z))[:, 0].numpy(), masker)
    want = exact(np.ones((1, features))).values[0]
    got = play(KernelShap, game, features).effects.values
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-8)


def test_a_coalition_of_three() -> None:
    values = play(KernelShap, lambda z: z[:, :3].prod(1, keepdim=True), 4).effects.values
    torch.testing.assert_close(values, torch.tensor([1, 1, 1, 0], dtype=torch.float64) / 3, rtol=0, atol=1e-15)


def test_symmetry() -> None:
    game = random_game(5, seed=4)
    swapped = [1, 0, 2, 3, 4]
    values = play(KernelShap, lambda z: game(z) + game(z[:, swapped]), 5).effects.values
    assert values[0].item() == pytest.approx(values[1].item(), abs=1e-13)
    assert abs(values[0] - values[2]) > 1e-3


def test_a_feature_without_effect() -> None:
    game = random_game(4, seed=5)
    values = play(KernelShap, lambda z: game(z[:, [0, 1, 3, 4]]), 5).effects.values
    assert values[2] == 0
    torch.testing.assert_close(values[[0, 1, 3, 4]], by_permutations(game, 4)[:, 0], rtol=0, atol=1e-13)


def test_linear_over_models() -> None:
    one, other = random_game(6, seed=6), random_game(6, seed=7)
    values = [play(KernelShap, game, 6).effects.values for game in (one, other, lambda z: 3 * one(z) - 0.5 * other(z))]
    torch.testing.assert_close(values[2], 3 * values[0] - 0.5 * values[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("features", [1, 10, 12])
def test_few_features_are_enumerated(features: int) -> None:
    result = play(KernelShap, random_game(features), features, standard_errors=True)
    assert result.report.evaluations == 2**features == len(result.effects.coalitions) == result.effects.samples
    assert result.effects.exact
    assert (result.effects.standard_errors == 0).all()
    assert (result.standard_error == 0).all()
    assert len(result.effects.coalitions.unique(dim=0)) == 2**features


def test_as_many_as_n_samples_allows_are_enumerated() -> None:
    game = interacting(13)
    assert not play(KernelShap, game, 13).effects.exact
    result = play(KernelShap, game, 13, n_samples=2**13)
    assert result.effects.exact
    table = game(all_coalitions(13).double())[:, 0]
    weights = [math.factorial(s) * math.factorial(12 - s) / math.factorial(13) for s in range(13)]
    joins = all_coalitions(13)[:, 4] == 0
    gains = table[torch.arange(2**13)[joins] + 16] - table[joins]
    want = (gains * torch.tensor(weights, dtype=torch.float64)[all_coalitions(13)[joins].sum(1)]).sum()
    torch.testing.assert_close(result.effects.values[4], want, rtol=0, atol=1e-12)


def test_coalitions_and_outputs_are_what_the_model_was_asked_and_said() -> None:
    game = random_game(5)
    effects = play(KernelShap, game, 5).effects
    torch.testing.assert_close(effects.outputs, game(effects.coalitions.double())[:, 0], rtol=0, atol=0)
    assert effects.baseline_output == game(torch.zeros(1, 5)).item()
    assert effects.output == game(torch.ones(1, 5)).item()


def test_features_that_hold_the_baseline_are_left_out() -> None:
    hsi = strip(6)
    hsi.image[0, 0, [1, 4]] = 0
    game = random_game(6)
    result = KernelShap(game_of(game)).get_spatial_attributes(hsi, each_pixel(6), target=0)
    assert result.report.evaluations == 2**4
    assert result.effects.values[1] == result.effects.values[4] == 0

    def smaller(z: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(len(z), 6, dtype=torch.float64)
        whole[:, [0, 2, 3, 5]] = z.double()
        return game(whole)

    torch.testing.assert_close(
        result.effects.values[[0, 2, 3, 5]], by_permutations(smaller, 4)[:, 0], rtol=0, atol=1e-13
    )


def test_an_image_that_is_the_baseline() -> None:
    hsi = strip(5)
    result = KernelShap(game_of(random_game(5))).get_spatial_attributes(
        hsi, each_pixel(5), target=0, baseline=1, interactions=True, standard_errors=True
    )
    assert (result.attributes == 0).all()
    assert (result.effects.interactions == 0).all()
    assert (result.effects.standard_errors == 0).all()
    assert result.report.evaluations == 1
    assert result.effects.output == result.effects.baseline_output


# ---------------------------------------------------------------- sampled values


@pytest.mark.parametrize("features", [30, 64, 65, 130, 1100])
def test_additive_games_are_recovered(features: int) -> None:
    weights = torch.arange(1.0, features + 1, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = play(KernelShap, additive(weights), features)
    assert not result.effects.exact
    torch.testing.assert_close(result.effects.values, weights, rtol=1e-9, atol=0)
    assert_efficient(result)


@pytest.mark.parametrize("n_samples", [40, 101, 500, 4000])
def test_sampled_values_sum_to_the_gain(n_samples: int) -> None:
    result = play(KernelShap, interacting(14), 14, n_samples=n_samples)
    assert result.report.evaluations == len(result.effects.coalitions) <= n_samples
    assert len(result.effects.coalitions.unique(dim=0)) == len(result.effects.coalitions)
    assert_efficient(result)


def test_a_game_far_from_zero_keeps_its_sum() -> None:
    game = interacting(14)
    result = play(KernelShap, lambda z: 1e6 + game(z), 14, n_samples=300)
    near = play(KernelShap, game, 14, n_samples=300)
    assert float(result.effects.values.sum()) == pytest.approx(float(near.effects.values.sum()), rel=1e-7)


def test_more_samples_come_nearer() -> None:
    game = interacting(13)
    exact = play(KernelShap, game, 13, n_samples=2**13).effects.values
    errors = []
    for n_samples in (60, 600, 6000):
        found = [play(KernelShap, game, 13, n_samples=n_samples).effects.values for _ in range(6)]
        errors.append(float((torch.stack(found) - exact).square().mean().sqrt()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_sampled_values_have_the_right_mean() -> None:
    game = interacting(13)
    exact = play(KernelShap, game, 13, n_samples=2**13).effects.values
    found = torch.stack([play(KernelShap, game, 13, n_samples=400).effects.values for _ in range(60)])
    spread = found.std(0) / 60**0.5
    assert ((found.mean(0) - exact).abs() < 4.5 * spread + 1e-12).all()


def test_standard_errors_tell_the_spread_over_seeds() -> None:
    game = interacting(20)
    results = [play(KernelShap, game, 20, n_samples=400, standard_errors=True) for _ in range(40)]
    spread = torch.stack([result.effects.values for result in results]).std(0)
    told = torch.stack([result.effects.standard_errors for result in results]).square().mean(0).sqrt()
    assert ((told / spread).log().mean().exp() - 1).abs() < 0.25
    assert (told / spread > 0.5).all()
    assert (told / spread < 2).all()
    torch.testing.assert_close(results[0].standard_error.flatten(), results[0].effects.standard_errors)


def test_standard_errors_only_where_wanted() -> None:
    result = play(KernelShap, interacting(14), 14, n_samples=100)
    assert result.effects.standard_errors is None
    assert result.standard_error is None


def test_few_coalitions_warn_and_give_the_values_nearest_to_equal_shares() -> None:
    weights = torch.arange(1.0, 31, dtype=torch.float64)
    with pytest.warns(UserWarning, match="29"):
        result = play(KernelShap, additive(weights), 30, n_samples=12, standard_errors=True)
    effects = result.effects
    assert effects.values.isfinite().all()
    assert_efficient(result)
    assert effects.standard_errors.isnan().all()
    # They fit every coalition that was asked, and no solution has less distance from equal shares.
    rows = effects.coalitions.double()
    torch.testing.assert_close(rows @ effects.values, rows @ weights, rtol=1e-9, atol=1e-9)
    share = weights.sum() / 30
    nearest = share + torch.linalg.pinv(rows) @ (rows @ (weights - share))
    torch.testing.assert_close(effects.values, nearest, rtol=0, atol=1e-8)


def test_enough_coalitions_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = play(KernelShap, interacting(14), 14, n_samples=40)
    assert result.effects.values.isfinite().all()


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_too_few_samples_for_any_pair(n_samples: int) -> None:
    with pytest.raises(ValueError, match="n_samples"):
        play(KernelShap, interacting(14), 14, n_samples=n_samples)


def test_two_coalitions_are_all_of_one_feature() -> None:
    assert play(KernelShap, lambda z: 3 * z, 1, n_samples=2).effects.values.tolist() == [3.0]
    with pytest.raises(ValueError, match=r"at least 2 .*1 feature\b"):
        play(KernelShap, lambda z: 3 * z, 1, n_samples=1)


def test_n_samples_is_a_positive_int() -> None:
    with pytest.raises(TypeError, match="n_samples"):
        play(KernelShap, interacting(4), 4, n_samples=1e3)
    with pytest.raises(ValueError, match="n_samples"):
        play(KernelShap, interacting(4), 4, n_samples=0)


@pytest.mark.parametrize(("features", "n_samples"), [(40, 2**62), (1100, 10**9), (24, 2**24)])
def test_more_coalitions_than_fit_into_memory(features: int, n_samples: int) -> None:
    calls: list[int] = []

    def value(z: torch.Tensor) -> torch.Tensor:
        calls.append(len(z))
        return z[:, :1]

    with options(memory_limit=2**30), pytest.raises(MemoryError, match=rf"{features} features"):
        play(KernelShap, value, features, n_samples=n_samples)
    assert not calls


def test_a_small_budget_for_chunks_refuses_no_coalitions() -> None:
    weights = torch.arange(1.0, 201, dtype=torch.float64)
    with options(memory_limit=10_000):
        result = play(KernelShap, additive(weights), 200)
    torch.testing.assert_close(result.effects.values, weights, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["interactions", "standard_errors"])
def test_flags_are_bools(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        play(KernelShap, interacting(4), 4, **{name: "no"})


# ---------------------------------------------------------------- interactions


@pytest.mark.parametrize("features", [2, 3, 5])
def test_interactions_by_definition(features: int) -> None:
    game = random_game(features, seed=8)
    effects = play(KernelShap, game, features, interactions=True).effects
    matrix, beside = effects.interactions, ~torch.eye(features, dtype=torch.bool)
    torch.testing.assert_close(matrix[beside], interactions_by_definition(game, features)[beside], rtol=0, atol=1e-12)
    assert torch.equal(matrix, matrix.T)
    torch.testing.assert_close(matrix.sum(1), effects.values, rtol=0, atol=1e-12)
    assert float(matrix.sum()) == pytest.approx(effects.output - effects.baseline_output, abs=1e-12)


def test_interactions_of_a_product() -> None:
    effects = play(KernelShap, lambda z: 6 * z[:, :1] * z[:, 1:2] + z[:, 2:3] + 7, 3, interactions=True).effects
    want = torch.tensor([[0, 3, 0], [3, 0, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(effects.interactions, want, rtol=0, atol=1e-14)
    torch.testing.assert_close(effects.values, want.sum(1), rtol=0, atol=1e-14)
    assert effects.baseline_output == 7


def test_interactions_of_one_feature_are_its_value() -> None:
    assert play(KernelShap, lambda z: 3 * z, 1, interactions=True).effects.interactions.tolist() == [[3.0]]


def test_interactions_of_every_output() -> None:
    game = random_game(4, outputs=3)
    results = play(KernelShap, game, 4, target="all", interactions=True)
    for t, result in enumerate(results):
        alone = play(KernelShap, game, 4, target=t, interactions=True)
        assert torch.equal(result.effects.interactions, alone.effects.interactions)


def test_interactions_leave_out_features_that_hold_the_baseline() -> None:
    hsi = strip(4)
    hsi.image[0, 0, 2] = 0
    result = KernelShap(game_of(random_game(4))).get_spatial_attributes(hsi, each_pixel(4), target=0, interactions=True)
    matrix = result.effects.interactions
    assert (matrix[2] == 0).all()
    assert (matrix[:, 2] == 0).all()
    torch.testing.assert_close(matrix.sum(1), result.effects.values, rtol=0, atol=1e-13)


@pytest.mark.parametrize("features", [13, 25, 1100])
def test_too_many_features_for_interactions(features: int) -> None:
    calls = []

    def value(z: torch.Tensor) -> torch.Tensor:
        calls.append(len(z))
        return z[:, :1]

    with pytest.raises(ValueError, match=rf"2\^{features}"):
        play(KernelShap, value, features, interactions=True)
    assert not calls


# ---------------------------------------------------------------- going on


def test_a_finished_run_takes_more_samples() -> None:
    game = interacting(20)
    first = play(KernelShap, game, 20, n_samples=200)
    more = play(KernelShap, game, 20, n_samples=800, continue_from=first)
    torch.manual_seed(0)
    once = play(KernelShap, game, 20, n_samples=800)
    known = {tuple(row) for row in first.effects.coalitions.tolist()}
    asked = {tuple(row) for row in more.effects.coalitions.tolist()}
    assert known < asked
    assert more.report.evaluations <= len(asked) - len(known) + 2  # beside new ones some verify the model
    assert more.effects.seed == first.effects.seed
    assert_efficient(more)
    assert once.effects.values.shape == more.effects.values.shape


def test_the_same_samples_again_cost_next_to_nothing() -> None:
    game = random_game(6)
    first = play(KernelShap, game, 6)
    again = play(KernelShap, game, 6, interactions=True, continue_from=first)
    assert again.report.evaluations <= 2
    torch.testing.assert_close(again.effects.values, first.effects.values, rtol=0, atol=1e-14)
    assert again.effects.interactions is not None


def test_from_samples_to_all_coalitions() -> None:
    game = interacting(13)
    first = play(KernelShap, game, 13, n_samples=500)
    exact = play(KernelShap, game, 13, n_samples=2**13, continue_from=first)
    assert exact.effects.exact
    assert exact.report.evaluations <= 2**13 - len(first.effects.coalitions) + 2
    alone = play(KernelShap, game, 13, n_samples=2**13)
    torch.testing.assert_close(exact.effects.values, alone.effects.values, rtol=0, atol=1e-12)
