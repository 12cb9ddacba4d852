"""Named parts of the spectrum: which bands they are, and groups of them in methods and figures."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import spyndex
import torch

from meteors_c import HSI, attr, spectral, visualize
from meteors_c.exceptions import BandSelectionError, MaskCreationError
from meteors_c.models import ExplainableModel


def image(wavelengths: Any = None) -> HSI:
    wavelengths = np.linspace(400, 2500, 211) if wavelengths is None else wavelengths
    return HSI(image=torch.rand(len(wavelengths), 3, 4), wavelengths=wavelengths)


def model(bands: int) -> ExplainableModel:
    torch.manual_seed(0)
    return ExplainableModel(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(bands * 12, 2)).eval(), "classification"
    )


def test_regions_are_ranges_with_a_source() -> None:
    for name, ranges in spectral.regions().items():
        assert ranges, name
        assert all(0 < low < high for low, high in ranges)
    assert {"blue", "SWIR-2", "water absorption", "oxygen absorption", "red edge", "VNIR"} <= set(spectral.regions())


@pytest.mark.parametrize(
    ("region", "symbol"), [("blue", "B"), ("red", "R"), ("NIR", "N"), ("SWIR-1", "S1"), ("SWIR-2", "S2")]
)
def test_regions_agree_with_spyndex(region: str, symbol: str) -> None:
    band = spyndex.bands[symbol]
    assert spectral.regions()[region] == ((band.min_wavelength, band.max_wavelength),)


def test_bands_of_an_image() -> None:
    hsi = image()
    wavelengths = hsi.wavelengths.numpy()
    np.testing.assert_array_equal(hsi.bands("red edge"), np.flatnonzero((wavelengths >= 680) & (wavelengths <= 750)))
    np.testing.assert_array_equal(hsi.bands((500, 530)), [10, 11, 12, 13])
    for spelled in ("SWIR 2", "swir2", "Swir_2", "S2"):
        np.testing.assert_array_equal(hsi.bands(spelled), hsi.bands("SWIR-2"))
    both = sorted({*hsi.bands("R").tolist(), *hsi.bands("N").tolist()})
    assert hsi.bands("NDVI").tolist() == hsi.bands(["R", "N"]).tolist() == both
    water = hsi.bands("water absorption")
    assert {int(i) for i in water} == {
        i
        for i, w in enumerate(wavelengths)
        if 890 <= w <= 965 or 1100 <= w <= 1170 or 1350 <= w <= 1450 or 1800 <= w <= 1950
    }
    assert hsi.bands("thermal").size == 0
    assert hsi.bands("water vapor 940").tolist() == hsi.bands("water vapour 940").tolist()


def test_bands_in_any_order_and_precision() -> None:
    values = [760.0, 450.0, 530.0, 900.0]
    for wavelengths in (
        values,
        np.array(values, dtype=np.float32),
        torch.tensor(values),
        torch.tensor([760, 450, 530, 900]),
    ):
        assert spectral.bands_in(wavelengths, "NIR").tolist() == [0, 3]
        assert spectral.bands_in(wavelengths, "blue").tolist() == [1, 2]


def test_sensors() -> None:
    table = spectral.sensors()
    assert {"sentinel2a", "sentinel2b", "landsat8", "landsat9", "planetscope"} <= set(table)
    low, high = table["sentinel2a"]["B8A"]
    band = spyndex.bands.N2.sentinel2a
    assert (low + high) / 2 == pytest.approx(band.wavelength)
    assert high - low == pytest.approx(band.bandwidth)
    hsi = image()
    inside = [i for i, w in enumerate(hsi.wavelengths.tolist()) if low <= w <= high]
    for name in ("sentinel2a B8A", "Sentinel-2A/B8A", "SENTINEL2A b8a"):
        assert hsi.bands(name).tolist() == inside


@pytest.mark.parametrize(
    ("name", "near"), [("red edg", "red edge"), ("sentinel2a B13", "sentinel2a B12"), ("NDVJ", "NDVI")]
)
def test_unknown_names_have_near_ones(name: str, near: str) -> None:
    with pytest.raises(BandSelectionError, match=f"Did you mean.*{near}"):
        image().bands(name)


@pytest.mark.parametrize("name", [3, (1.0,), ("a", "b"), None])
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(TypeError, match="chosen by"):
        image().bands(name)


def test_a_range_turned_round() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        image().bands((700.0, 600.0))


def test_without_spyndex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spyndex", None)
    spectral._sensors.cache_clear()
    assert image().bands("red edge").size
    assert attr.Lime.get_band_mask(image(), "regions")[1]
    for name in ("sentinel2a B1", "NDVI"):
        with pytest.raises(ImportError, match=r"meteors_c\[masks\]"):
            image().bands(name)
    with pytest.raises(ImportError, match="spyndex"):
        spectral.sensors()


@pytest.mark.parametrize("name", ["regions", "absorption", "sentinel2a", "Landsat-8"])
def test_tables_are_groups_without_a_warning(name: str) -> None:
    hsi = image()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask, ids = attr.Lime.get_band_mask(hsi, name)
    found = spectral.groups(hsi, name)
    assert list(ids) == list(found)
    for label, bands in found.items():
        assert np.flatnonzero(mask.flatten() == ids[label]).tolist() == bands
    listed = [band for bands in found.values() for band in bands]
    assert len(listed) == len(set(listed))


def test_the_narrow_band_inside_a_wide_one_keeps_its_bands() -> None:
    found = spectral.groups(image(), "sentinel2a")
    inside = image().bands("sentinel2a B8A").tolist()
    assert found["sentinel2a B8A"] == inside
    assert not set(found["sentinel2a B8"]) & set(inside)


def test_wavelengths_are_one_list_of_numbers() -> None:
    hsi = image()
    assert spectral.bands_in(hsi, "red").tolist() == spectral.bands_in(hsi.wavelengths, "red").tolist()
    assert spectral.bands_in([450.0, 650.0], (np.float32(600), np.int64(700))).tolist() == [1]
    with pytest.raises(ValueError, match=r"\(2, 211\)"):
        spectral.bands_in(hsi.wavelengths.expand(2, -1), "red")
    with pytest.raises(TypeError, match="wavelengths"):
        spectral.bands_in(["650"], "red")
    for names in (3, [("red", "NIR")]):
        with pytest.raises(TypeError, match="names"):
            spectral.groups(hsi, names)


def test_names_of_a_list() -> None:
    hsi = image()
    _, ids = attr.Lime.get_band_mask(hsi, ["red edge", "sentinel2a B11", ["blue", "green"]])
    assert ids == {"red edge": 1, "sentinel2a B11": 2, ("blue", "green"): 3}
    assert spectral.groups(hsi, ["blue", "VIS"])["blue"] == hsi.bands("blue").tolist()
    with pytest.raises(MaskCreationError, match="no band of 'absorption'"):
        attr.Lime.get_band_mask(image([450.0, 550.0]), "absorption")


METHODS: dict[str, Callable[[ExplainableModel, HSI], Any]] = {
    "Lime": lambda net, hsi: attr.Lime(net).get_spectral_attributes(hsi, band_names="regions", target=0, n_samples=30),
    "Kernel Shap": lambda net, hsi: attr.KernelShap(net).get_spectral_attributes(hsi, band_names="regions", target=0),
    "Feature Ablation": lambda net, hsi: attr.FeatureAblation(net).attribute(hsi, target=0, feature_mask="regions"),
    "Occlusion": lambda net, hsi: attr.Occlusion(net).get_spectral_attributes(hsi, target=0, band_names="regions"),
}


@pytest.mark.parametrize("method", METHODS)
def test_groups_in_one_call(method: str) -> None:
    wavelengths = [450.0, 490.0, 560.0, 665.0, 705.0, 740.0, 842.0, 1240.0]
    hsi = image(wavelengths)
    result = METHODS[method](model(len(wavelengths)), hsi)
    assert result.attribution_method == method
    assert {"blue", "green", "red", "red edge", "NIR"} <= set(result.band_names)
    assert result.band_mask[4] == result.band_mask[5] == result.band_names["red edge"]
    assert result.flattened_attributes[4] == result.flattened_attributes[5]


def test_occlusion_of_groups_is_what_the_output_loses() -> None:
    hsi = image([450.0, 560.0, 705.0, 740.0])
    net = model(4)
    result = attr.Occlusion(net).get_spectral_attributes(hsi, target=1, band_names=["red edge"])
    without = hsi.image.clone()
    without[2:] = 0
    lost = net(hsi.image[None])[0, 1] - net(without[None])[0, 1]
    torch.testing.assert_close(result.flattened_attributes[3], lost.detach())
    assert result.attribution_method == result.report.method == "Occlusion"
    with pytest.raises(ValueError, match="instead of windows"):
        attr.Occlusion(net).get_spectral_attributes(hsi, 1, 2, band_names=["red edge"])


def test_groups_in_figures() -> None:
    hsi = image([450.0, 560.0, 705.0, 740.0])
    result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(hsi.image.shape))
    figure, axes = visualize.visualize_spectral_aggregated_attributes(result, "regions")
    labels = [label.get_text() for label in axes[1].get_xticklabels()]
    assert labels == ["coastal aerosol", "green", "red edge"]
    assert figure is axes[0].figure


@pytest.mark.parametrize("name", ["water", "650", ""])
def test_what_is_like_no_name_lists_those_there_are(name: str) -> None:
    with pytest.raises(BandSelectionError, match=r"red edge.*oxygen A"):
        image().bands(name)
