"""Report pages in a browser: they draw, and answer to mouse and keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import HSI, attr, pages
from tests.pages.toys import COLUMNS, ROWS, explained, field, full
from tests.scenes.models import patch_model, scene
from tests.toys import explainable, smooth


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "one.html"
    pages.write(path, full(target=0))
    return path


def spectrum(result: Any, row: int, column: int) -> tuple[list[float], list[float]]:
    order = torch.argsort(result.hsi.wavelengths)
    return result.hsi.image[order, row, column].tolist(), result.attributes[order, row, column].tolist()


def check_pixel(page: Any, number: int, result: Any, row: int, column: int) -> None:
    shown = page.traces("pixel", number)
    image, attributions = spectrum(result, row, column)
    np.testing.assert_allclose(shown[0]["x"], sorted(result.hsi.wavelengths.tolist()))
    np.testing.assert_allclose(shown[0]["y"], image, rtol=1e-4)  # a page has four digits
    np.testing.assert_allclose(shown[1]["y"], attributions, rtol=1e-4)
    (mark,) = page.traces("map", number)[1:]
    assert (set(mark["y"]), set(mark["x"])) == ({row}, {column})
    readout = page.run("return document.getElementById(arguments[0]).textContent", f"readout-{number}")
    assert f"Row {row}, column {column}" in readout


def test_it_draws_without_errors_and_without_a_network(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "all.html"
    results = list(explained().values())
    pages.write(path, results)
    opened = page(path)
    assert opened.errors() == []
    for number, result in enumerate(results):
        for name in ("map", "pixel", "bands"):
            drawn = opened.run(
                "const plot = document.getElementById(arguments[0]); const traces = '.scatterlayer .trace, "
                ".barlayer .trace, .heatmaplayer .hm'; return plot && plot.querySelectorAll(traces).length",
                f"{name}-{number}",
            )
            spatial = name == "bands" and type(result).__name__ == "HSIAttributesSpatial"
            assert (drawn is None) if spatial else drawn > 0, (name, number)
    loaded = opened.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []


def test_the_slider_changes_the_opacity_of_the_map(page: Any, one: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened = page(one)
    seen = (
        "return Number(getComputedStyle(document.querySelector('#map-0 .heatmaplayer image')).opacity) * "
        "Number(getComputedStyle(document.querySelector('#map-0 .heatmaplayer .hm')).opacity)"
    )
    assert opened.run(seen) == pytest.approx(0.8, abs=0.01)
    slider = opened.browser.find_element(By.ID, "opacity")
    slider.send_keys(Keys.HOME)
    assert opened.traces("map", 0)[0]["opacity"] == 0
    for _ in range(6):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert opened.traces("map", 0)[0]["opacity"] == pytest.approx(0.3)
    assert opened.run(seen) == pytest.approx(0.3, abs=0.01)
    assert opened.run("return document.getElementById('opacity-value').textContent") == "30 %"
    assert opened.errors() == []


def test_a_click_shows_that_pixel(page: Any, one: Path) -> None:
    opened, result = page(one), full(target=0)
    for row, column in ((2, 3), (0, 0), (ROWS - 1, COLUMNS - 1)):
        opened.click_at_pixel(0, row, column)
        check_pixel(opened, 0, result, row, column)
    assert opened.errors() == []


def test_a_click_works_where_the_map_is_not_seen(page: Any, one: Path) -> None:
    opened = page(one)
    opened.run(
        "const slider = document.getElementById('opacity'); slider.value = 0; slider.dispatchEvent(new Event('input'))"
    )
    opened.click_at_pixel(0, 5, 1)
    check_pixel(opened, 0, full(target=0), 5, 1)


def test_fields_choose_a_pixel_without_a_mouse(page: Any, one: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened = page(one)
    for name, value in (("row", 4), ("column", 2)):
        box = opened.browser.find_element(By.ID, name)
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(f"{value}{Keys.TAB}")
    check_pixel(opened, 0, full(target=0), 4, 2)


def test_scales_are_shared_on_request_and_pixels_are_common(page: Any, tmp_path: Path) -> None:
    hsi = field()
    small, large = full(hsi, 0), full(hsi, 1)
    large.attributes *= 10
    path = tmp_path / "two.html"
    pages.write(path, [small, large], titles=["small", "large"])
    opened = page(path)
    limits = [opened.traces("map", number)[0]["zmax"] for number in (0, 1)]
    assert limits[0] < limits[1]
    begun = [(mark["y"], mark["x"]) for number in (0, 1) for mark in opened.traces("map", number)[1:]]
    assert begun[0] == begun[1]
    opened.run("document.getElementById('shared').click()")
    assert [opened.traces("map", number)[0]["zmax"] for number in (0, 1)] == [limits[1]] * 2
    assert [opened.traces("map", number)[0]["zmin"] for number in (0, 1)] == [-limits[1]] * 2
    opened.click_at_pixel(1, 3, 2)
    check_pixel(opened, 0, small, 3, 2)
    check_pixel(opened, 1, large, 3, 2)
    pages.write(path, [small, large], share_scale=True)
    opened = page(path)
    assert [opened.traces("map", number)[0]["zmax"] for number in (0, 1)] == [limits[1]] * 2


def test_of_a_thinned_scene_the_nearest_pixel_is_shown(page: Any, tmp_path: Path) -> None:
    result = full(field(60, 50, 4))
    path = tmp_path / "page.html"
    pages.write(path, result, max_bytes=20_000)
    opened = page(path)
    opened.click_at_pixel(0, 31, 17)
    shown = opened.traces("map", 0)[1]
    row, column = shown["y"][0], shown["x"][0]
    assert 0 < max(abs(row - 31), abs(column - 17)) <= 3
    check_pixel(opened, 0, result, row, column)


def test_of_a_whole_scene_the_nearest_pixel_that_was_kept_is_shown(page: Any, tmp_path: Path) -> None:
    array = scene()
    explainer = attr.Saliency(patch_model(3))
    labels = 1 + (np.indices((23, 19)).sum(0) % 2)
    for values in (30, False):
        maps = attr.explain_scene(explainer, array, window=3, target=[0, 1], values=values, pixels=labels)
        path = tmp_path / f"{values}.html"
        pages.write_maps(path, array, maps)
        opened = page(path)
        opened.click_at_pixel(1, 12, 7)
        for number in (0, 1):
            (mark,) = opened.traces("map", number)[1:]
            row, column = mark["y"][0], mark["x"][0]
            readout = opened.run("return document.getElementById(arguments[0]).textContent", f"readout-{number}")
            assert f"Row {row}, column {column}" in readout
            if not values:
                assert (row, column) == (12, 7)
                assert float(readout.split()[-1][:-1]) == pytest.approx(float(maps["map"][number, 12, 7]), rel=1e-3)
                continue
            distances = (maps["row"].values - 12) ** 2 + (maps["column"].values - 7) ** 2
            assert (row - 12) ** 2 + (column - 7) ** 2 == distances.min()
            spectrum, attributions = opened.traces("pixel", number)
            np.testing.assert_allclose(spectrum["y"], array.values[:, row, column], rtol=1e-4)
            which = np.flatnonzero((maps["row"] == row) & (maps["column"] == column))[0]
            np.testing.assert_allclose(attributions["y"], maps["pixel_values"][number, which], rtol=1e-4)
            assert len(opened.traces("bands", number)) == 3  # bars, and a line for each class
        assert opened.errors() == []


def test_markup_from_outside_does_not_run(page: Any, tmp_path: Path) -> None:
    nasty = "</script><img src=x onerror=\"document.body.dataset.hit='yes'\"><b onclick=alert(1)>"
    path = tmp_path / "page.html"
    pages.write(path, [full(), full()], titles=[nasty, "plain"], made={"scene": nasty})
    opened = page(path)
    assert opened.run("return document.body.dataset.hit") is None
    assert opened.run("return document.querySelectorAll('main img, main b').length") == 0
    assert nasty in opened.run("return document.querySelector('h2').textContent")


def test_names_of_regions_are_seen_whole_side_by_side(page: Any, tmp_path: Path) -> None:
    hsi = HSI(image=torch.rand(18, 4, 4), wavelengths=torch.linspace(420, 2150, 18))
    both = [attr.HSIAttributes(hsi=hsi, attributes=torch.randn(18, 4, 4), target=target) for target in (0, 1)]
    path = tmp_path / "regions.html"
    pages.write(path, both)
    opened = page(path)
    left, right = opened.run(
        "const box = document.getElementById('bands-0').getBoundingClientRect(); return [box.left, box.right]"
    )
    boxes = opened.run(
        "return [...document.querySelectorAll('#bands-0 .annotation-text')].map(one => "
        "{ const box = one.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; })"
    )
    assert len(boxes) > 8
    for i, one in enumerate(boxes):
        assert left <= one[0] < one[2] <= right
        for other in boxes[:i]:
            apart = one[0] > other[2] + 5 or other[0] > one[2] + 5 or one[1] >= other[3] - 1 or other[1] >= one[3] - 1
            assert apart, (one, other)


def test_large_and_small_numbers_have_powers_of_ten(page: Any, tmp_path: Path) -> None:
    hsi = HSI(image=torch.rand(3, 4, 4) * 1e10, wavelengths=[500.0, 600.0, 700.0])
    path = tmp_path / "powers.html"
    pages.write(path, attr.HSIAttributes(hsi=hsi, attributes=torch.randn(3, 4, 4) * 1e-5))
    texts = page(path).run(
        "return [...document.querySelectorAll('.ytick text, .y2tick text, .cbaxis text')].map(one => one.textContent)"
    )
    letters = set("".join(texts)) & set("BMGkµμnm")
    assert texts
    assert not letters


def test_numbers_of_groups_are_not_summed_up(page: Any, tmp_path: Path) -> None:
    hsi, path = field(), tmp_path / "groups.html"
    hsi.image = hsi.image / 500
    model = explainable(smooth(size=hsi.image.numel()))
    groups = attr.FeatureAblation(model).attribute(hsi, target=0, feature_mask=torch.arange(len(hsi.image)) // 3)
    assert isinstance(groups, attr.HSIAttributesSpectral)
    pages.write(path, [groups, full(hsi, 0)])
    opened = page(path)
    for number, summed in enumerate((False, True)):
        said = opened.run("return document.getElementById(arguments[0]).textContent", f"readout-{number}")
        assert ("sum to" in said) == summed
        assert "the largest at" in said
