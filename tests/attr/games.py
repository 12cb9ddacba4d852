"""Games on images: models whose outputs depend on which features keep the image's values alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import factorial
from typing import Any

import torch

from meteors_c import HSI
from meteors_c.attr import HSIAttributes, KernelShap, ShapleyValueSampling
from meteors_c.models import ExplainableModel
from tests.toys import SHAPE, explainable

Value = Callable[[torch.Tensor], torch.Tensor]  # (n, features) of 0 and 1 -> (n, outputs)
# Of the images of `tests.toys`: ids with gaps; those below 0 are in no feature.
SUPERPIXELS = torch.tensor([[4, 4, 7], [4, -1, 7], [0, 0, 7], [0, 0, 0]])[None]
SUPERBANDS = torch.tensor([2, 2, 9, -3, 5])[:, None, None]


def wide(ids: torch.Tensor) -> torch.Tensor:
    """Ids in the shape of the image."""
    return ids.expand(SHAPE)


def strip(features: int, dtype: torch.dtype = torch.float64) -> HSI:
    """An image of one band and one row of ones; each pixel is to be a feature of its own."""
    return HSI(image=torch.ones(1, 1, features, dtype=dtype), wavelengths=[500.0])


def each_pixel(features: int) -> torch.Tensor:
    return torch.arange(features).reshape(1, 1, features)


def game_of(value: Value) -> ExplainableModel:
    """The model of a game on a `strip`, whose baseline is 0."""
    return explainable(lambda x: value(x.flatten(1)))


def play(method: type[KernelShap] | type[ShapleyValueSampling], value: Value, features: int, **arguments: Any) -> Any:
    """Explain output 0 of a game, or what `arguments` say."""
    arguments = {"target": 0, **arguments}
    return method(game_of(value)).get_spatial_attributes(strip(features), each_pixel(features), **arguments)


def random_game(features: int, outputs: int = 1, seed: int = 0) -> Value:
    """A number for each coalition and output, independent of all others."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(2**features, outputs, generator=generator, dtype=torch.float64)
    places = 2 ** torch.arange(features)
    return lambda z: table[(z.long() * places).sum(1)]


def additive(weights: torch.Tensor) -> Value:
    return lambda z: (z.double() @ weights.double())[:, None] + 5.0


def all_coalitions(features: int) -> torch.Tensor:
    """(2^features, features): row s holds the bits of s."""
    return (torch.arange(2**features)[:, None] >> torch.arange(features)) & 1


def by_permutations(value: Value, features: int) -> torch.Tensor:
    """(features, outputs): the mean of what each feature gains over all orders, one by one."""
    table = value(all_coalitions(features).double())
    total = torch.zeros(features, table.shape[1], dtype=torch.float64)
    for order in itertools.permutations(range(features)):
        coalition = 0
        for feature in order:
            total[feature] += table[coalition | 1 << feature] - table[coalition]
            coalition |= 1 << feature
    return total / factorial(features)


def interactions_by_definition(value: Value, features: int) -> torch.Tensor:
    """(features, features): half the Shapley interaction index, beside the diagonal; output 0."""
    table = value(all_coalitions(features).double())[:, 0]
    found = torch.zeros(features, features, dtype=torch.float64)
    for i, j in itertools.permutations(range(features), 2):
        others = [k for k in range(features) if k not in (i, j)]
        for size in range(features - 1):
            weight = factorial(size) * factorial(features - size - 2) / factorial(features - 1)
            for chosen in itertools.combinations(others, size):
                s = sum(1 << k for k in chosen)
                both, one, other = s | 1 << i | 1 << j, s | 1 << i, s | 1 << j
                found[i, j] += weight * (table[both] - table[one] - table[other] + table[s]) / 2
    return found


def value_on(
    model: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, ids: torch.Tensor, missing: Any
) -> Value:
    """The game of an image: features are the ids that are not negative, ascending; all of the image's shape."""
    features = [int(one) for one in ids.unique() if one >= 0]

    def value(coalitions: torch.Tensor) -> torch.Tensor:
        samples = []
        for flags in coalitions:
            dropped = torch.zeros_like(ids, dtype=torch.bool)
            for feature, kept in zip(features, flags, strict=True):
                dropped |= (ids == feature) & (kept == 0)
            samples.append(torch.where(dropped, torch.as_tensor(missing, dtype=image.dtype), image))
        with torch.no_grad():
            return model(torch.stack(samples))

    return value


def spread(values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The value of the feature of each place, 0 in none."""
    result = torch.zeros(ids.shape, dtype=values.dtype)
    for value, feature in zip(values, [one for one in ids.unique() if one >= 0], strict=True):
        result[ids == feature] = value
    return result


def assert_efficient(result: HSIAttributes, within: float = 1e-9) -> None:
    """The values sum to the output for the image less that for the baseline, up to a part of the larger of both."""
    effects = result.effects
    assert effects is not None
    gain, total = effects.output - effects.baseline_output, float(effects.values.sum())
    assert abs(total - gain) <= within * max(abs(effects.output), abs(effects.baseline_output), 1e-300), (total, gain)
