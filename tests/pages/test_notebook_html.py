"""What notebooks show: one string that loads nothing, runs nothing and tells what there is."""

from __future__ import annotations

import base64
import io
import re
import warnings
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from meteors_c import HSI, attr
from tests.pages.toys import COLUMNS, ROWS, explained, field, full
from tests.toys import explainable, smooth


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)"', html)
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(one))) for one in found]


def check(html: str) -> None:
    assert not re.search(r"<script|https?:|//cdn|\son\w+=", html)
    for tag in ("div", "details", "summary", "table", "header"):
        assert html.count(f"<{tag}>") + html.count(f"<{tag} ") == html.count(f"</{tag}>")
    assert "<details" in html


def test_an_image() -> None:
    html = field()._repr_html_()
    check(html)
    for word in ("6 x 8 x 5", "450.0 to 850.0 nm", "float32"):
        assert word in html
    (picture,) = pictures(html)
    assert picture.shape[:2] == (ROWS, COLUMNS)


def test_large_images_have_small_pictures() -> None:
    html = field(900, 700, 3)._repr_html_()
    assert max(pictures(html)[0].shape[:2]) <= 160
    assert len(html) < 300_000


@pytest.mark.parametrize("orientation", ["HWC", "WCH", "CWH"])
def test_orientation_turns_no_picture(orientation: str) -> None:
    hsi = field()
    (first,), (second,) = pictures(hsi._repr_html_()), pictures(hsi.change_orientation(orientation)._repr_html_())
    np.testing.assert_array_equal(first, second)


def test_masks_and_lost_values_are_said() -> None:
    mask = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    mask[0, :4] = False
    hsi = field(binary_mask=mask)
    hsi.image[0, 6, 1] = float("nan")
    html = hsi._repr_html_()
    assert "50.0 %" in html
    assert "1 values are NaN" in html


@pytest.mark.parametrize("kind", ["full", "spatial", "spectral", "tunnel"])
def test_results(kind: str) -> None:
    result = explained()[kind]
    html = result._repr_html_()
    check(html)
    (picture,) = pictures(html)
    assert picture.shape[:2] == (ROWS, COLUMNS)
    assert "target 1" in html
    assert str(result.report.evaluations) in html
    if kind == "full":
        assert "convergence delta" in html
        colours = picture[..., :3]
        total = result.attributes.sum(0)
        red = torch.from_numpy(colours[..., 0] > colours[..., 2])
        strong = total.abs() > 0.3 * total.abs().max()
        assert torch.equal(red[strong], total[strong] > 0)


def test_reports() -> None:
    report = attr.Saliency(explainable(smooth(size=240))).attribute(field(), target=0).report
    html = report._repr_html_()
    check(html)
    for name, value in report.to_dict().items():
        if isinstance(value, int):
            assert name in html
    assert "in the model" in html


def test_what_comes_from_outside_is_escaped() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: Any = full(attribution_method="<script>alert(1)</script>", target="<b>")
    check(result._repr_html_())
    assert "&lt;B&gt;" in result._repr_html_() or "&lt;b&gt;" in result._repr_html_()


@pytest.mark.parametrize("shape", [(2, 1, 3), (1, 4, 1), (1, 1, 1)])
def test_the_smallest_images(shape: tuple[int, int, int]) -> None:
    check(HSI(image=torch.zeros(shape), wavelengths=[500.0, 900.0][: shape[0]])._repr_html_())
