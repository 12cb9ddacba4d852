"""Maximum pools over images whose channels lie together: torch's values, and gradients at the same places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import meteors_c as mt
from meteors_c import attr
from tests.toys import assert_shortcut, explainable

SHAPE = (6, 13, 11)
POOLS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": (5, 2), "stride": (2, 3), "padding": (2, 0)},
    {"kernel_size": 2, "stride": 3},  # values that no window has
    {"kernel_size": 2, "stride": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 4, "padding": 1, "ceil_mode": True},
    {"kernel_size": (13, 11)},
    {"kernel_size": 3, "dilation": 2},
    {"kernel_size": 2, "return_indices": True},
]


class Pooled(nn.Module):
    """Whole numbers in and out: no sum of them is rounded, so that results can be the same to the last bit."""

    def __init__(self, pool: dict[str, Any], channels_last: bool = True) -> None:
        super().__init__()
        self.pool, self.channels_last = pool, channels_last
        with torch.no_grad():
            y = self.pooled(torch.zeros(1, *SHAPE))
            self.register_buffer("weights", torch.randint(-3, 4, y.shape).float())

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        y = functional.max_pool2d((x * x).contiguous(memory_format=layout), **self.pool)
        return y[0] if isinstance(y, tuple) else y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.pooled(x) * self.weights).flatten(1).sum(1, keepdim=True)


def numbers(ties: bool = True) -> mt.HSI:
    """So few different values that windows have several largest ones, or hardly ever."""
    values = torch.randint(-2 if ties else -60, 3 if ties else 60, SHAPE, generator=torch.Generator().manual_seed(1))
    return mt.HSI(image=values.float(), wavelengths=torch.linspace(400, 900, SHAPE[0]))


def gradients(model: nn.Module, hsi: mt.HSI, shortcuts: Any) -> Any:
    """Points at quarters of the way, and weights of a quarter: exact, too."""
    with mt.options(shortcuts=shortcuts):
        return attr.IntegratedGradients(explainable(model)).attribute(
            hsi, target=0, baseline=0, n_steps=4, method="riemann_left"
        )


def windows(model: nn.Module, hsi: mt.HSI, shortcuts: Any) -> Any:
    with mt.options(shortcuts=shortcuts):
        return attr.Occlusion(explainable(model)).attribute(
            hsi, target=0, sliding_window_shapes=(2, 4, 4), strides=(2, 3, 4), baseline=0
        )


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("call", [gradients, windows])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_the_same_to_the_last_bit(pool: dict[str, Any], call: Any, channels_last: bool, ties: bool) -> None:
    torch.manual_seed(0)
    model, hsi = Pooled(pool, channels_last).eval(), numbers(ties)
    replayed, plain = call(model, hsi, "replay"), call(model, hsi, False)
    assert_shortcut(replayed.report)
    assert torch.equal(replayed.attributes, plain.attributes)
    assert plain.attributes.abs().max() > 0 or pool["kernel_size"] == SHAPE[1:]  # one maximum of many that are equal


def test_windows_of_one_value_are_the_function_itself() -> None:
    """By hand: the largest of one value is that value, and its gradient all goes there."""
    torch.manual_seed(0)
    model, hsi = Pooled({"kernel_size": 1}).eval(), numbers()
    found = gradients(model, hsi, "replay").attributes
    slopes = sum(2 * alpha * hsi.image for alpha in (0.0, 0.25, 0.5, 0.75)) / 4
    assert torch.equal(found, hsi.image * slopes * model.weights[0])


def test_several_images_and_batches() -> None:
    torch.manual_seed(0)
    model = Pooled({"kernel_size": 3, "stride": 2, "padding": 1}).eval()
    images = [numbers(), numbers(False)]
    for batch in (1, 3):
        with mt.options(shortcuts="replay"):
            found = attr.IntegratedGradients(explainable(model)).attribute(
                images, target=0, baseline=0, n_steps=4, method="riemann_left", internal_batch_size=batch
            )
        for one, hsi in zip(found, images, strict=True):
            assert torch.equal(one.attributes, gradients(model, hsi, False).attributes)


class NotANumber(nn.Module):
    """The root of a negative number in some place, in front of a pool."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.max_pool2d((x - 0.5).sqrt().contiguous(memory_format=torch.channels_last), 2)
        return functional.relu(y).flatten(1).sum(1, keepdim=True)


@pytest.mark.filterwarnings("ignore:there are values that are NaN")
@pytest.mark.parametrize("shortcuts", ["replay", "always"])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_what_is_not_a_number_is_the_largest(place: tuple[int, int], shortcuts: Any) -> None:
    """No pool hides it, wherever in its window it is."""
    values = torch.ones(SHAPE)
    values[(0, *place)] = 0
    hsi = mt.HSI(image=values, wavelengths=torch.linspace(400, 900, SHAPE[0]))
    found, plain = (windows(NotANumber().eval(), hsi, way).attributes for way in (shortcuts, False))
    assert plain.isnan().any()
    assert torch.equal(found.isnan(), plain.isnan())
