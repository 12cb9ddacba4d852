"""ShapleyValueSampling: Shapley values by random orders."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from meteors_c.attr import KernelShap, ShapleyValueSampling
from tests.attr.games import additive, assert_efficient, by_permutations, each_pixel, game_of, play, random_game, strip


def pairwise(features: int, seed: int = 0) -> Any:
    """A game of order two: single weights and products of two."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(features, generator=generator, dtype=torch.float64)
    products = torch.randn(features, features, generator=generator, dtype=torch.float64).triu(1)
    return lambda z: (z.double() @ weights + torch.einsum("ni,ij,nj->n", z.double(), products, z.double()))[:, None]


@pytest.mark.parametrize("features", [1, 2, 7, 70])
def test_one_order_sums_to_the_gain(features: int) -> None:
    game = pairwise(features)
    result = play(ShapleyValueSampling, game, features, n_samples=1, antithetic=False)
    assert result.effects.samples == 1
    assert result.report.evaluations == features + 1
    assert not result.effects.exact
    assert_efficient(result, 1e-12)
    assert result.effects.standard_errors.isnan().all()


@pytest.mark.parametrize("features", [2, 3, 6, 40])
def test_an_order_and_its_reverse_are_exact_for_games_of_order_two(features: int) -> None:
    game = pairwise(features)
    result = play(ShapleyValueSampling, game, features, n_samples=2)
    assert result.effects.samples == 2
    want = (
        by_permutations(game, features)[:, 0]
        if features <= 6
        else play(ShapleyValueSampling, game, features, n_samples=60).effects.values
    )
    torch.testing.assert_close(result.effects.values, want, rtol=0, atol=1e-10)


def test_a_product_is_shared_alike() -> None:
    values = play(ShapleyValueSampling, lambda z: 6 * z[:, :1] * z[:, 1:2], 3, n_samples=2).effects.values
    assert values.tolist() == [3, 3, 0]


def test_an_odd_number_of_orders_is_rounded_up_to_pairs() -> None:
    game = random_game(5)
    assert play(ShapleyValueSampling, game, 5, n_samples=7).effects.samples == 8
    assert play(ShapleyValueSampling, game, 5, n_samples=7, antithetic=False).effects.samples == 7
    assert play(ShapleyValueSampling, game, 5).effects.samples == 26


@pytest.mark.parametrize("antithetic", [True, False])
def test_many_orders_come_to_the_values(antithetic: bool) -> None:
    game = random_game(5, outputs=2)
    want = by_permutations(game, 5)
    for t, result in enumerate(
        play(ShapleyValueSampling, game, 5, n_samples=4000, antithetic=antithetic, target="all")
    ):
        off = (result.effects.values - want[:, t]).abs()
        assert (off < 4.5 * result.effects.standard_errors + 1e-12).all()
        assert (result.effects.standard_errors < 0.1).all()
        assert result.report.evaluations == 2**5  # none twice
        assert_efficient(result, 1e-12)


@pytest.mark.parametrize("antithetic", [True, False])
def test_standard_errors_tell_the_spread_over_seeds(antithetic: bool) -> None:
    game = random_game(6)
    results = [play(ShapleyValueSampling, game, 6, n_samples=40, antithetic=antithetic) for _ in range(80)]
    spread = torch.stack([result.effects.values for result in results]).std(0)
    told = torch.stack([result.effects.standard_errors for result in results]).square().mean(0).sqrt()
    assert ((told / spread) > 0.7).all()
    assert ((told / spread) < 1.4).all()
    torch.testing.assert_close(results[0].standard_error.flatten(), results[0].effects.standard_errors)


def test_additive_games_of_many_features() -> None:
    weights = torch.arange(1.0, 1101, dtype=torch.float64)
    result = play(ShapleyValueSampling, additive(weights), 1100, n_samples=2)
    torch.testing.assert_close(result.effects.values, weights, rtol=1e-9, atol=0)
    assert_efficient(result)


def test_agrees_with_the_exact_values() -> None:
    game = pairwise(9)
    exact = play(KernelShap, game, 9).effects.values
    torch.testing.assert_close(
        play(ShapleyValueSampling, game, 9, n_samples=2).effects.values, exact, rtol=0, atol=1e-12
    )


def test_features_without_effect_and_features_that_hold_the_baseline() -> None:
    hsi = strip(6)
    hsi.image[0, 0, 3] = 0
    game = random_game(5)
    result = ShapleyValueSampling(game_of(lambda z: game(z[:, [0, 2, 3, 4, 5]]))).get_spatial_attributes(
        hsi, each_pixel(6), target=0, n_samples=6
    )
    assert result.effects.values[1] == result.effects.values[3] == 0
    assert result.effects.standard_errors[3] == 0
    assert (result.effects.coalitions[:, 3] == 1).all()
    assert_efficient(result, 1e-12)


def test_an_image_that_is_the_baseline() -> None:
    result = play(ShapleyValueSampling, random_game(5), 5, baseline=1.0)
    assert (result.attributes == 0).all()
    assert result.report.evaluations == 1
    assert (result.effects.standard_errors == 0).all()


def test_linear_over_models() -> None:
    one, other, values = random_game(6, seed=6), random_game(6, seed=7), []
    for game in (one, other, lambda z: 3 * one(z) - 0.5 * other(z)):
        torch.manual_seed(9)
        values.append(play(ShapleyValueSampling, game, 6, n_samples=4).effects.values)
    torch.testing.assert_close(values[2], 3 * values[0] - 0.5 * values[1], rtol=0, atol=1e-13)


# ---------------------------------------------------------------- a tolerance


def test_sampling_stops_where_it_is_precise_enough() -> None:
    noise = random_game(6, seed=1)
    game = lambda z: noise(z) + 4 * z[:, :1]  # noqa: E731
    loose = play(ShapleyValueSampling, game, 6, tolerance=0.3).effects
    tight = play(ShapleyValueSampling, game, 6, tolerance=0.1).effects
    assert loose.samples < tight.samples < 1000
    for effects, tolerance in ((loose, 0.3), (tight, 0.1)):
        assert effects.standard_errors.max() <= tolerance * effects.values.abs().max()


def test_a_tolerance_samples_no_more_than_it_may() -> None:
    effects = play(ShapleyValueSampling, random_game(8), 8, tolerance=1e-9, n_samples=30).effects
    assert effects.samples == 30
    assert play(ShapleyValueSampling, random_game(8), 8, tolerance=1e-9).effects.samples == 1000


def test_games_of_order_two_stop_at_the_first_look() -> None:
    effects = play(ShapleyValueSampling, pairwise(12), 12, tolerance=1e-6).effects
    assert effects.samples < 26
    torch.testing.assert_close(effects.standard_errors, torch.zeros(12, dtype=torch.float64), rtol=0, atol=1e-12)


def test_each_image_stops_by_itself() -> None:
    calm, wild = strip(6), strip(6)
    wild.image *= 2
    game = random_game(6)

    def value(z: torch.Tensor) -> torch.Tensor:  # additive for ones, of every order for twos
        return torch.where(z.amax(1, keepdim=True) > 1, game(z / 2), z.sum(1, keepdim=True))

    results = ShapleyValueSampling(game_of(value)).get_spatial_attributes(
        [calm, wild], each_pixel(6), target=0, tolerance=0.1
    )
    assert results[0].effects.samples < results[1].effects.samples


def test_the_worst_output_decides() -> None:
    wild = random_game(6)
    both = play(
        ShapleyValueSampling, lambda z: torch.cat([z.sum(1, True).double(), wild(z)], 1), 6, target="all", tolerance=0.1
    )
    assert both[0].effects.samples == both[1].effects.samples > 16


@pytest.mark.parametrize("tolerance", [0, 1, -0.1, float("nan"), "little", True])
def test_tolerances_are_parts(tolerance: Any) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        play(ShapleyValueSampling, random_game(4), 4, tolerance=tolerance)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_samples": 0}, ValueError),
        ({"n_samples": -2}, ValueError),
        ({"n_samples": 2.5}, TypeError),
        ({"antithetic": "no"}, TypeError),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        play(ShapleyValueSampling, random_game(4), 4, **arguments)


# ---------------------------------------------------------------- going on


def test_a_finished_run_takes_more_orders() -> None:
    game = random_game(10)
    first = play(ShapleyValueSampling, game, 10, n_samples=10)
    more = play(ShapleyValueSampling, game, 10, n_samples=40, continue_from=first)
    assert more.effects.samples == 40
    assert more.effects.seed == first.effects.seed
    assert more.report.evaluations <= len(more.effects.coalitions) - len(first.effects.coalitions) + 2


def test_more_orders_are_the_same_as_all_at_once() -> None:
    game = random_game(10)
    torch.manual_seed(5)
    first = play(ShapleyValueSampling, game, 10, n_samples=10)
    more = play(ShapleyValueSampling, game, 10, n_samples=40, continue_from=first)
    torch.manual_seed(5)
    once = play(ShapleyValueSampling, game, 10, n_samples=40)
    assert torch.equal(more.effects.values, once.effects.values)
    assert torch.equal(more.effects.standard_errors, once.effects.standard_errors)


def test_more_coalitions_than_are_kept_at_once() -> None:
    """Many features take several rounds; the values are those of one, and the result keeps the first coalitions."""
    features = 4000
    weights = torch.linspace(-1, 1, features, dtype=torch.float64)
    result = play(ShapleyValueSampling, additive(weights), features, n_samples=20, perturbations_per_eval=500)
    assert result.effects.samples == 20
    torch.testing.assert_close(result.effects.values, weights, rtol=0, atol=1e-9)
    assert_efficient(result)
    assert 2**26 < result.effects.coalitions.numel() <= 2**27
    assert result.report.evaluations > len(result.effects.coalitions)
    assert result.effects.coalitions[0].sum() == 0
    torch.testing.assert_close(
        result.effects.outputs, result.effects.coalitions.double() @ weights + 5, rtol=0, atol=1e-9
    )
