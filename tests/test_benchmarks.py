"""The workloads of the benchmarks can be called; what they take is for `make bench` to say."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c
from benchmarks import __main__ as main
from benchmarks import bounds, device, large_windows, operations, scaling, scenes, table, third_party
from benchmarks.architectures import SMALL
from benchmarks.child import forwards_call, library_call
from benchmarks.features import superbands
from benchmarks.models import Scene, scene_of
from benchmarks.networks import CLASSES
from benchmarks.process import ask_once
from benchmarks.turns import Turns
from benchmarks.workloads import WORKLOADS
from tests.toys import Watched

CASES = [
    (name, scene) for name, workload in WORKLOADS.items() if workload.features is not None for scene in workload.scenes
]


def superpixels(scene: Scene) -> np.ndarray:
    _, rows, columns = scene.shape
    return np.broadcast_to(np.arange(rows)[None, :, None] * 3 // rows, (1, rows, columns)).copy()


@pytest.mark.filterwarnings("ignore:all coefficients are 0")
@pytest.mark.parametrize(("name", "scene"), CASES)
def test_workloads_over_features(name: str, scene: str) -> None:
    small = scene_of(scene, tiny=True)
    call = library_call("meteors_c", WORKLOADS[name], small, path="plain", half=False, superpixels=superpixels(small))
    (result,) = call()
    assert isinstance(result, meteors_c.attr.HSIAttributes)
    assert len(result.effects.ids) == 3
    assert result.report.evaluations == 2**3
    (again,) = call(continue_from=[result])
    torch.testing.assert_close(again.effects.values, result.effects.values, rtol=0, atol=1e-5)
    assert again.report.evaluations <= 2


def test_forwards_are_as_many_as_coalitions() -> None:
    small, networks = scene_of("pixelwise 224", tiny=True), []

    def build() -> Watched:
        networks.append(Watched(small.build()))
        return networks[0]

    call = forwards_call(replace(small, build=build), superpixels(small))
    networks[0].sizes.clear()
    call()
    assert sum(networks[0].sizes) == 2**3
    assert len(set(networks[0].sizes)) == 1


@pytest.mark.parametrize("bands", [3, 150, 200])
def test_superbands_are_neighbours_of_equal_number(bands: int) -> None:
    ids = superbands(bands).flatten().tolist()
    sizes = [len(list(group)) for _, group in itertools.groupby(ids)]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 1


# ---------------------------------------------------------------- models that others wrote

WRITTEN_HERE = ["HybridSN", "SSRN", "1-D CNN on each pixel", "GRU over the bands"]


def small_scene(name: str) -> Scene:
    """A scene of fewer pixels, where the network takes any number of them."""
    found = SMALL[name]
    return found if name == "HybridSN" else replace(found, shape=(found.shape[0], 8, 8))


@pytest.mark.parametrize("name", WRITTEN_HERE)
def test_networks_treat_images_by_themselves(name: str) -> None:
    scene = replace(small_scene(name), count=2)
    model, images = scene.model(), torch.stack(scene.images())
    with torch.no_grad():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    assert together.shape == (2, CLASSES)
    assert not torch.allclose(together[0], together[1])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", list(third_party.METHODS))
def test_cells_are_measured(method: str) -> None:
    row = third_party.cell(third_party.METHODS[method], small_scene("1-D CNN on each pixel"), rounds=1, tiny=True)
    assert min(row["ratio"], row["first"], row["second"]) > 0
    assert 0 <= row["plain_error"] < 1e-2
    assert row["plain_error"] <= row["largest_plain_error"]
    assert 0 <= row["error"] < 1e-2
    assert row["error"] <= row["largest_error"]
    assert (row["draws"] > third_party.DRAWS) == (row["kinks"] + row["plain_kinks"] > 0)
    assert (row["shortcut"] is None) != (row["declined"] is None)


def test_figures_say_what_is_missed() -> None:
    assert table.reaching(0.5, 0.5) == "0.50"
    assert table.within(0.5, 0.5) == "0.50"
    assert table.reaching(0.49, 0.5) == table.judged("0.49", False) != "0.49"
    assert table.within(0.51, 0.5) == table.judged("0.51", False)


def cell(ratio: float, error: float, plain_error: float, largest: float = 0.0) -> dict[str, Any]:
    return {
        "model": "ResNet", "method": "Saliency", "ratio": ratio, "first": ratio, "second": ratio / 2,
        "error": error, "plain_error": plain_error,
        "largest_error": largest, "largest_plain_error": 0.0, "draws": 5, "kinks": int(largest > 1e-5),
        "plain_kinks": 0, "shortcut": None, "declined": "none",
    }  # fmt: skip


def test_summary_counts_what_is_slow_and_what_is_wrong() -> None:
    rows = [cell(4.0, 3e-5, 1e-5, 1e-3), cell(0.25, 2e-5, 1e-5, 1e-3), cell(1.0, 1e-7, 0.0)]
    text = third_party.summary(rows)
    assert "| cells below 0.97 of the plain path's speed | 1 | **missed**" in text
    assert "| geometric mean of all cells | 1.00 x | **missed**" in text
    assert "| first calls below 0.97 of the plain path's speed | 1 | **missed**" in text
    assert "| geometric mean of all second calls | 0.50 x |" in text
    assert "a median error over 2 times the plain path's | 1 | **missed**" in text
    assert "largest error is over 2 times the plain path's | 2 |" in text
    assert "| errors over 1e-05, of the default : of the plain path | 2 : 0 |" in text


def test_summary_of_cells_that_failed() -> None:
    text = third_party.summary([cell(2.0, 0, 0), {"model": "ResNet", "method": "Saliency", "failed": "RuntimeError"}])
    assert "| cells that failed | 1 | **missed**" in text
    assert "| geometric mean of all cells | 2.00 x | >= 1.4 x |" in text


def test_ratio_is_the_median_of_the_turns() -> None:
    assert Turns(ours=[1.0, 2.0, 5.0], other=[2.0, 6.0, 5.0]).ratio == 2.0


def test_turns_alternate_and_are_paired() -> None:
    calls: list[str] = []
    turns = Turns()
    turns.add(lambda: calls.append("ours"), lambda: calls.append("other"), 3)
    assert calls == ["ours", "other", "other", "ours", "ours", "other"]
    assert len(turns.ours) == len(turns.other) == 3


# ---------------------------------------------------------------- operations and bounds


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 5, 3, padding=1), nn.Flatten())


def test_operations_are_two_for_each_weight_and_place() -> None:
    first, second = operations.products(convolutions(), torch.rand(1, 6, 20, 20))
    assert first.operations == 2 * 400 * 6 * 4 * 9
    assert second.operations == 2 * 400 * 4 * 5 * 9


def test_operations_of_linear_layers_and_attention() -> None:
    linear = operations.products(nn.Linear(6, 3), torch.rand(7, 6))
    assert [product.operations for product in linear] == [2 * 7 * 6 * 3]

    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    found = operations.products(Attention(), torch.rand(1, 2, 5, 4))
    assert sum(product.operations for product in found) == 2 * (2 * 2 * 5 * 5 * 4)


def test_reach_of_a_window_grows_by_the_receptive_field() -> None:
    torch.manual_seed(0)
    model, image = convolutions(), torch.rand(6, 20, 20) + 0.5
    first, second = (product.operations for product in operations.products(model, image[None]))
    found = operations.mean_reach(model, image, [operations.box_change((slice(3), slice(8, 10), slice(8, 10)))])
    assert found.places == pytest.approx(16 / 400)
    assert found.first == pytest.approx(first * 0.5 * 16 / 400)  # half of the channels
    assert found.rest == pytest.approx(second * 36 / 400)


def test_reach_over_half_is_the_whole_layer() -> None:
    torch.manual_seed(0)
    model, image = convolutions(), torch.rand(6, 20, 20) + 0.5
    _, second = (product.operations for product in operations.products(model, image[None]))
    found = operations.mean_reach(model, image, [operations.box_change((slice(None), slice(16), slice(16)))])
    assert found.places == 1
    assert found.rest == second


def test_operators_move_what_they_read_and_write() -> None:
    model, values = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Sigmoid()), torch.rand(2, 3, 5)
    assert operations.moved_bytes(model, values) == 2 * (2 * 4 * values.numel())


def test_needs_of_the_plain_path_are_passes_of_the_model() -> None:
    scene = scene_of("CNN 224", tiny=True)
    total = sum(p.operations for p in operations.products(scene.model(), scene.images()[0][None]))
    saliency = bounds.needs(WORKLOADS["Saliency"], "CNN 224", scene, "plain", 3)
    occlusion = bounds.needs(WORKLOADS["Occlusion, bands 8/6"], "CNN 224", scene, "plain", 3)
    assert saliency.operations == pytest.approx(3 * 2 * total)
    assert occlusion.operations == pytest.approx(3 * total)
    assert saliency.bytes > occlusion.bytes


@pytest.mark.parametrize(("name", "scene"), [(n, s) for n, w in WORKLOADS.items() for s in w.scenes])
def test_shortcuts_need_no_more_operations_than_the_plain_path(name: str, scene: str) -> None:
    small = scene_of(scene, tiny=True)
    less, more = (bounds.needs(WORKLOADS[name], scene, small, path, 100) for path in ("shortcut", "plain"))
    assert 0 < less.operations <= more.operations * 1.05


def test_bound_is_the_larger_of_arithmetic_and_memory() -> None:
    rates = {"operations": 100.0, "bytes": 10.0}
    assert bounds.Needs(400.0, 10.0).seconds(rates) == (4.0, "arithmetic")
    assert bounds.Needs(100.0, 20.0).seconds(rates) == (2.0, "memory")


# ---------------------------------------------------------------- windows, scaling, the page


def test_seconds_of_all_windows_are_in_proportion_to_evaluations() -> None:
    assert large_windows.windows(large_windows.STRIDE) == 729
    assert large_windows.whole_grid(197 * 0.5) == pytest.approx(730 * 0.5)


@pytest.mark.parametrize("count", [49, 196])
def test_scaling_counts_windows(count: int) -> None:
    image = scaling.image_of((64, scaling.WINDOW_SIDE, scaling.WINDOW_SIDE), 0)
    result = third_party.explainer(scaling.light_net(64).eval(), "Occlusion").attribute(
        image, target=0, **scaling.window(count)
    )
    assert result.report.evaluations == count + 1


def test_scaling_point_in_a_process_of_its_own() -> None:
    found = ask_once("benchmarks.scaling", "images", "1", "--threads", "1", rounds=1)
    assert found["seconds"] > 0
    assert found["peak"] >= found["before"] > 0


def test_question_that_fails_is_answered() -> None:
    assert "KeyError" in ask_once("benchmarks.scaling", "windows", "50", "--threads", "1", rounds=1)["failed"]


def test_cells_of_a_device_are_kept_one_by_one(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    device.measure("cpu", 1, time.monotonic() + 60, rows, "SSRN, Saliency")
    (row,) = json.loads(rows.read_text())["rows"]
    assert row["seconds"] > 0
    assert row["error"] == row["plain_error"] < 1e-4
    assert "| SSRN |" in device.section(json.loads(rows.read_text()))
    rows.unlink()
    device.measure("cpu", 1, time.monotonic() - 1, rows, "")
    assert not rows.exists()


def test_section_replaces_its_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for section in ["# One\n\n1\n\n## Part\n", "# Two\n\n2\n", "# One\n\n3\n"]:
        table.write_section(page, section)
    assert page.read_text() == "# One\n\n3\n\n# Two\n\n2\n"


def test_parts_of_scenes_make_a_table() -> None:
    rows = scenes.measure(1, True, lambda name: True)
    assert {row["part"] for row in rows} >= {
        "read",
        "cut windows",
        "windows, whole block",
        "tile, whole block",
        "write",
    }
    text = scenes.section(rows, 1)
    assert f"{scenes.SCENES:,} scenes" in text
    assert len(scenes.on_paper({row["part"]: row["seconds"] for row in rows})) == len(scenes.WORKERS)


def test_a_row_that_is_measured_again_replaces_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells rows apart is what they are of, and none of their figures."""
    monkeypatch.setattr(main, "ROOT", tmp_path)
    figures = {"seconds": 1.0, "passes": 1.0, "of_passes": 1.0, "evaluations": 1, "verifying": 0, "peak": 1e9}
    first = main.kept("clip", [{"method": "Saliency", "shortcut": None, **figures}])
    again = main.kept("clip", [{"method": "Saliency", "shortcut": None, **dict.fromkeys(figures, 2.0)}])
    assert len(first) == len(again) == 1
    assert again[0]["seconds"] == 2.0
    assert not set(figures) & set(main.KEYS)
