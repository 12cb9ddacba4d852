"""Progress is told with its total from the start, by every method, and ends at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import meteors_c as mt
from meteors_c import attr
from meteors_c.models import ExplainableModel
from tests.toys import BANDS, COLUMNS, ROWS, Watched, convolutional, cube, explainable, smooth

Told = list[tuple[int, int]]
SUPERPIXELS = torch.arange(ROWS * COLUMNS).reshape(1, ROWS, COLUMNS) // 2
EACH_BAND = torch.arange(BANDS)


def calls(model: ExplainableModel) -> dict[str, Callable[..., Any]]:
    """Every method, also in tunnels, by what they are."""
    image, two = cube(), [cube(0), cube(1)]
    lime, shap, orders = attr.Lime(model), attr.KernelShap(model), attr.ShapleyValueSampling(model)
    return {
        "saliency": lambda show: attr.Saliency(model).attribute(two, target=0, show_progress=show),
        "ixg": lambda show: attr.InputXGradient(model).attribute(two, target=0, show_progress=show),
        "ig": lambda show: attr.IntegratedGradients(model).attribute(
            two, target=0, return_convergence_delta=True, show_progress=show
        ),
        "occlusion": lambda show: attr.Occlusion(model).attribute(two, target=0, show_progress=show),
        "bands": lambda show: attr.Occlusion(model).get_spectral_attributes(image, target=0, show_progress=show),
        "ablation": lambda show: attr.FeatureAblation(model).attribute(two, target=0, show_progress=show),
        "lime": lambda show: lime.get_spatial_attributes(image, SUPERPIXELS, 0, n_samples=40, verbose=show),
        "shap": lambda show: shap.get_spectral_attributes(two, EACH_BAND, 0, verbose=show),
        "orders": lambda show: orders.get_spectral_attributes(image, EACH_BAND, 0, n_samples=6, verbose=show),
        "noise": lambda show: attr.NoiseTunnel(attr.Saliency(model)).attribute(
            two, target=0, n_samples=9, show_progress=show
        ),
        "noise around ig": lambda show: attr.NoiseTunnel(attr.IntegratedGradients(model)).attribute(
            two, target=0, n_samples=3, show_progress=show
        ),
        "bands around occlusion": lambda show: attr.HyperNoiseTunnel(attr.Occlusion(model)).attribute(
            two, target=0, n_samples=3, show_progress=show
        ),
        "bands around ablation": lambda show: attr.HyperNoiseTunnel(attr.FeatureAblation(model)).attribute(
            two, target=0, n_samples=3, show_progress=show
        ),
    }


def calls_that_stop_early(model: ExplainableModel) -> dict[str, Callable[..., Any]]:
    """Runs in rounds, which may need less than the most."""
    tolerance = {"tolerance": 0.9}
    return {
        # Nobody knows how many outputs there are before the first round.
        "all outputs": lambda show: attr.ShapleyValueSampling(model).get_spectral_attributes(
            cube(), EACH_BAND, "all", n_samples=6, verbose=show
        ),
        "lime": lambda show: attr.Lime(model).get_spatial_attributes(
            cube(), SUPERPIXELS, 0, n_samples="auto", verbose=show, **tolerance
        ),
        "orders": lambda show: attr.ShapleyValueSampling(model).get_spectral_attributes(
            cube(), EACH_BAND, 0, verbose=show, **tolerance
        ),
        "noise": lambda show: attr.NoiseTunnel(attr.Saliency(model)).attribute(
            [cube(0), cube(1)], target=0, n_samples=500, stdevs=0.01, show_progress=show, **tolerance
        ),
        "noise around ig": lambda show: attr.NoiseTunnel(attr.IntegratedGradients(model)).attribute(
            [cube(0), cube(1)], target=0, n_samples=100, stdevs=0.01, show_progress=show, **tolerance
        ),
    }


def told_by(call: Callable[[Any], Any], model: Watched) -> tuple[Told, int]:
    """What a callback is told, and how often the model was called before."""
    told: Told = []
    before: list[int] = []

    def show(done: int, total: int) -> None:
        before.append(len(model.sizes))
        told.append((done, total))

    call(show)
    return told, before[0]


def check(told: Told, called_before: int) -> None:
    assert called_before == 0
    assert told[0][0] == 0
    assert told[0][1] > 0
    done, total = told[-1]
    assert done == total
    assert [one for one, _ in told] == sorted(one for one, _ in told)


@pytest.mark.parametrize("path", ["plain", "where faster"])
@pytest.mark.parametrize("name", calls(explainable(smooth())))
def test_the_total_is_told_before_the_first_evaluation_and_stays(name: str, path: str) -> None:
    model = Watched(convolutional())
    with mt.options(shortcuts=path != "plain"):
        told, called_before = told_by(calls(explainable(model))[name], model)
    check(told, called_before)
    assert len({total for _, total in told}) == 1


@pytest.mark.parametrize("name", calls_that_stop_early(explainable(smooth())))
def test_runs_that_stop_early_tell_the_most_first_and_end_full(name: str) -> None:
    model = Watched(convolutional())
    told, called_before = told_by(calls_that_stop_early(explainable(model))[name], model)
    check(told, called_before)
    totals = [total for _, total in told]
    assert totals == sorted(totals, reverse=True)
    assert sum(model.sizes) < 3 * told[0][1]


def test_orders_in_several_rounds_know_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Watched(smooth())
    with mt.options(memory_limit=2000):  # so that not all orders are asked for at once
        told, called_before = told_by(
            lambda show: attr.ShapleyValueSampling(explainable(model)).get_spectral_attributes(
                cube(), EACH_BAND, 0, n_samples=40, verbose=show
            ),
            model,
        )
    check(told, called_before)
    totals = [total for _, total in told]
    assert totals == sorted(totals, reverse=True)


def test_a_bar_has_its_total_when_it_is_first_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    attr.IntegratedGradients(explainable(smooth())).attribute(cube(), target=0, n_steps=20, show_progress=True)
    assert "| 0/20 [" in capsys.readouterr().err.split("\r")[1]
