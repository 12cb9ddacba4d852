"""Report pages as files: everything in one, nothing from elsewhere, nothing lost."""

from __future__ import annotations

import base64
import json
import math
import re
import warnings
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plotly.offline import get_plotlyjs

from meteors_c import HSI, attr, pages
from tests.pages.toys import BANDS, COLUMNS, ROWS, explained, field, full


class Reader(HTMLParser):
    """Elements, their addresses, and the text of tables, by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.rows: dict[str, str] = {}
        self.headings: list[str] = []
        self._cell: list[str] = []
        self._heading = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._cell = []
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "srcset"):
                self.addresses.append(value or "")
            if name == "aria-label":
                self.labels.append(value or "")

    def handle_data(self, data: str) -> None:
        self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        text = "".join(self._cell)
        if tag == "th":
            self._heading = text
        if tag == "td":
            self.rows[self._heading] = text
        if tag in ("h1", "h2"):
            self.headings.append(text)
        self._cell = []


def written(path: Path, *arguments: Any, **options: Any) -> tuple[str, Reader, dict[str, Any]]:
    """The page without Plotly's own script, its elements, and its data."""
    pages.write(path, *arguments, **options)
    return read(path)


def read(path: Path) -> tuple[str, Reader, dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    (plotly,) = re.findall(r'<script type="text/plain" id="plotly">([A-Za-z0-9+/=]*)</script>', text)
    assert zlib.decompress(base64.b64decode(plotly)).decode() == get_plotlyjs()
    ours = text.replace(plotly, "")
    data = re.search(r'<script type="application/json" id="contents">(.*?)</script>', ours, re.S)
    assert data is not None
    return ours, Reader(ours), json.loads(data.group(1))


def floats(packed: dict[str, Any]) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["packed"])), dtype=np.uint8).reshape(4, -1)
    return np.ascontiguousarray(planes.T).view("<f4").reshape(packed["shape"])


def same(found: np.ndarray, wanted: Any) -> None:
    """Four digits of every number, however small."""
    np.testing.assert_allclose(found, np.asarray(wanted), rtol=2.0**-14, atol=0)


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    text, elements, _ = written(tmp_path / "page.html", list(explained().values()))
    assert not re.search(r"https?:|//cdn|url\(", text)
    assert not elements.addresses
    assert "link" not in elements.tags
    assert "default-src 'none'" in text


def test_the_numbers_are_those_of_the_result(tmp_path: Path) -> None:
    result = full(target=3)
    _, elements, data = written(tmp_path / "page.html", result)
    (panel,) = data["panels"]
    same(floats(data["arrays"][panel["image"]]), result.hsi.image)
    same(floats(data["arrays"][panel["attributions"]]), result.attributes)
    same(floats(data["arrays"][panel["heat"]]), result.attributes.double().sum(0).float())
    sums = result.attributes.sum(0).abs()
    assert sums[tuple(panel["start"])] == sums.max()
    assert elements.headings == ["Saliency, target 3"] * 2


@pytest.mark.parametrize("orientation", ["HWC", "WCH"])
def test_any_orientation_is_shown_alike(tmp_path: Path, orientation: str) -> None:
    result = full()
    _, _, first = written(tmp_path / "page.html", result)
    _, _, second = written(tmp_path / "turned.html", result.change_orientation(orientation))
    rotated = [data["arrays"][data["panels"][0]["attributions"]]["packed"] for data in (first, second)]
    assert rotated[0] == rotated[1]
    assert first["panels"][0]["shape"] == second["panels"][0]["shape"] == [ROWS, COLUMNS]


def test_the_mask_hides_values(tmp_path: Path) -> None:
    mask = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    mask[0, 2, 3] = False
    _, _, data = written(tmp_path / "page.html", full(field(binary_mask=mask)))
    (panel,) = data["panels"]
    for name in ("image", "attributions"):
        values = floats(data["arrays"][panel[name]])
        assert np.isnan(values[:, 2, 3]).all()
        assert np.isfinite(values).sum() == BANDS * (ROWS * COLUMNS - 1)
    values = floats(data["arrays"][panel["heat"]])
    assert np.isnan(values[2, 3])
    assert np.isnan(values).sum() == 1


def test_results_of_one_scene_hold_it_once(tmp_path: Path) -> None:
    hsi, other = field(), field()
    other.image = other.image + 1
    _, _, data = written(tmp_path / "page.html", [full(hsi, 0), full(hsi, 1), full(other, 2)])
    assert len(data["arrays"]) == 2 + 3 + 3  # scenes, attributions, maps
    first, second, third = (panel["image"] for panel in data["panels"])
    assert first == second != third


def test_large_scenes_make_no_large_files(tmp_path: Path) -> None:
    hsi = field(600, 500, 40)
    path = tmp_path / "page.html"
    text, _, data = written(path, full(hsi), max_bytes=4_000_000)
    (panel,) = data["panels"]
    assert panel["step"] > 1
    assert f"one in {panel['step']} x {panel['step']} pixels" in text
    kept = [floats(data["arrays"][panel[name]]).nbytes for name in ("image", "attributions")]
    assert sum(kept) <= 4_000_000
    assert path.stat().st_size < 2_500_000 + 0.8 * (4_000_000 + 4 * 600 * 500) + 3 * 600 * 500
    step, offset = panel["step"], panel["offset"]
    seen = hsi.image[:, offset::step, offset::step].numpy()
    same(floats(data["arrays"][panel["image"]]), seen)


def test_pages_are_small(tmp_path: Path) -> None:
    """Noise, of which nothing can be left out but digits: 11 MB of float32 and 5 MB of Plotly are less than 10 MB."""
    image = torch.randn((150, 96, 96), generator=torch.Generator().manual_seed(1))
    hsi = HSI(image=image, wavelengths=torch.linspace(400, 900, 150))
    pages.write(tmp_path / "page.html", full(hsi))
    size = (tmp_path / "page.html").stat().st_size
    assert size < 10_500_000
    (panel,) = read(tmp_path / "page.html")[2]["panels"]
    assert panel["step"] == 1
    hsi.image = (image * 1000).round()  # as sensors count
    pages.write(tmp_path / "counts.html", full(hsi))
    assert (tmp_path / "counts.html").stat().st_size < size


def test_numbers_of_any_size_keep_four_digits(tmp_path: Path) -> None:
    hsi = field()
    scale = 10.0 ** torch.linspace(-37, 37, hsi.image.numel()).reshape(hsi.image.shape)
    result = full(hsi)
    result.attributes = result.attributes.sign() * scale
    result.attributes[0, 0, 0] = -0.0
    result.attributes[1, 1, 1] = math.inf
    result.attributes[2, 2, 2] = torch.finfo(torch.float32).max
    _, _, data = written(tmp_path / "page.html", result)
    same(floats(data["arrays"][data["panels"][0]["attributions"]]), result.attributes)
    whole = full(hsi)
    whole.attributes = torch.arange(-16383, -16383 + hsi.image.numel()).reshape(hsi.image.shape).float()
    _, _, data = written(tmp_path / "page.html", whole)
    np.testing.assert_array_equal(floats(data["arrays"][data["panels"][0]["attributions"]]), whole.attributes)


def test_maps_of_many_pixels_are_means_over_blocks(tmp_path: Path) -> None:
    result = full(field(1500, 1300, 3))
    text, _, data = written(tmp_path / "page.html", result)
    heat = data["panels"][0]["figures"]["map"]["data"][0]
    values = floats(data["arrays"][data["panels"][0]["heat"]])
    wanted = result.attributes.double().sum(0).reshape(750, 2, 650, 2).mean((1, 3))
    np.testing.assert_allclose(values, wanted, rtol=2.0**-14, atol=1e-5)
    assert "averaged over 2 x 2 pixels" in text
    assert (heat["x0"], heat["dx"]) == (0.5, 2)


# ---------------------------------------------------------------- what comes from outside

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


def test_markup_from_outside_stays_text(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = full(attribution_method=NASTY)
        hsi = result.hsi
        mask = torch.tensor([1, 1, 2, 2, 2, 1]).reshape(-1, 1, 1).expand(hsi.image.shape)
        spectral = attr.HSIAttributesSpectral(
            hsi=hsi, attributes=mask * 1.0, mask=mask, band_names={NASTY: 1, "other": 2}, attribution_method="Lime"
        )
    plain, _, _ = written(tmp_path / "plain.html", [full(), full()])
    text, elements, _ = written(
        tmp_path / "page.html", [result, spectral], titles=[NASTY, "second"], made={NASTY: NASTY, "scene": NASTY}
    )
    assert elements.tags.count("script") == Reader(plain).tags.count("script")
    assert "img" not in elements.tags
    assert "<img" not in text
    assert NASTY in elements.headings
    assert elements.rows["scene"] == NASTY
    assert any(NASTY in label for label in elements.labels)


# ---------------------------------------------------------------- words


def test_the_evidence_is_told(tmp_path: Path) -> None:
    results = explained()
    told = {name: written(tmp_path / f"{name}.html", result)[1].rows for name, result in results.items()}
    delta = float(told["full"]["convergence delta"].split(",")[0])
    assert delta == pytest.approx(results["full"].score, rel=1e-3)
    effects = results["spectral"].effects
    assert effects is not None
    assert effects.score is not None
    assert f"{effects.score:.3f}" in told["spectral"]["R2 of the surrogate"]
    assert "%" in told["tunnel"]["standard error"]
    exact = results["spatial"].effects
    assert exact is not None
    assert "exact" in told["spatial"]["samples"]
    for name, rows in told.items():
        report = results[name].report
        assert rows["evaluations"].startswith(str(report.evaluations))
        assert (report.shortcut or report.shortcut_declined) in rows["shortcut"]
        assert rows["target"] == "1"
        assert torch.__version__ in rows["versions"]
    assert "n_steps=50" in told["full"]["arguments"]
    assert f"seed={effects.seed}" in told["spectral"]["arguments"]


def test_every_figure_and_field_has_a_label(tmp_path: Path) -> None:
    text, elements, _ = written(tmp_path / "page.html", list(explained().values()))
    assert text.count('role="img"') == sum('class="plot' in part for part in text.split("<")) == 4 * 2 + 3
    assert len(elements.labels) >= 4 * 2 + 3
    assert text.count("<input") == text.count("<label>") == 4
    assert '<html lang="en">' in text


def test_false_colours_and_values_that_are_lost_are_said(tmp_path: Path) -> None:
    result = full(HSI(image=torch.rand(3, 5, 5), wavelengths=[1000.0, 1300.0, 1600.0]))
    result.attributes[0, 1, 1] = float("nan")
    text, elements, _ = written(tmp_path / "page.html", result)
    assert "False colours" in text
    assert elements.rows["not finite"].startswith("1 of 75")


def test_titles_and_to_html(tmp_path: Path) -> None:
    full().to_html(tmp_path / "one.html", title="A field")
    assert "A field" in (tmp_path / "one.html").read_text(encoding="utf-8")
    _, elements, _ = written(tmp_path / "two.html", [full(), full()], titles=("first", "second"))
    assert elements.headings == ["2 attributions", "first", "second"]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("results", "options", "error", "words"),
    [
        ([], {}, ValueError, "results"),
        ([3], {}, TypeError, r"results\[0\] is of type int"),
        (None, {}, TypeError, "results .* not None"),
        ("a path", {}, TypeError, "results .* str"),
        ({"a": 1}, {}, TypeError, "results .* dict"),
        (7, {}, TypeError, "results .* int"),
        ([full(), None], {}, TypeError, r"results\[1\] is None"),
        ("one", {"titles": 5}, TypeError, "titles .* int"),
        ("one", {"titles": [None]}, TypeError, r"titles\[0\] is None"),
        ("one", {"made": "by hand"}, TypeError, "made .* str"),
        ("one", {"titles": ["a", "b"]}, ValueError, "titles"),
        ("one", {"share_scale": 1}, TypeError, "share_scale"),
        ("one", {"max_bytes": 0}, ValueError, "max_bytes"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, results: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pages.write(tmp_path / "page.html", full() if results == "one" else results, **options)
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_none() -> None:
    with pytest.raises(TypeError, match="path must be .* NoneType"):
        pages.write(None, full())  # type: ignore[arg-type]


def test_a_page_replaces_another_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")

    def full_disk(*arguments: Any, **options: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        with pytest.raises(OSError, match="No space"):
            pages.write(path, full())
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
    pages.write(path, full())
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_missing_plotly_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"report"):
        pages.write(tmp_path / "page.html", full())


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 1), (2, 1, 6)])
def test_the_smallest_scenes(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    hsi = HSI(image=torch.rand(shape), wavelengths=[500.0, 900.0][: shape[0]])
    for values in (torch.zeros(shape), torch.full(shape, float("nan"))):
        written(tmp_path / "page.html", attr.HSIAttributes(hsi=hsi, attributes=values, attribution_method="Saliency"))
