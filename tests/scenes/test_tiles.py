"""Scenes by tiles: what comes out is what one call with the whole scene gives, and no tiles are cut where it is not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from meteors_c import HSI, attr
from meteors_c.models import ExplainableModel
from meteors_c.scenes._job import Tiling
from meteors_c.scenes._receptive_field import Network, measured_tiling
from meteors_c.utils import agg_segmentation_postprocessing
from tests.scenes.models import (
    BANDS,
    WAVELENGTHS,
    Excited,
    Placed,
    UNet,
    convolutions,
    field,
    mapper,
    means,
    scene,
    sums,
)

NETS = {
    "convolutions": convolutions(),
    "dilated": convolutions(3),
    "pixelwise": nn.Sequential(nn.Conv2d(BANDS, 4, 1), nn.Tanh(), nn.Conv2d(4, 2, 1)),
    "u-net": UNet(),
    "bilinear u-net": UNet("bilinear"),
    "3-d": nn.Sequential(
        nn.Unflatten(1, (1, BANDS)), nn.Conv3d(1, 3, 3, padding=1), nn.Tanh(), nn.Flatten(1, 2),
        nn.Conv2d(3 * BANDS, 2, (1, 5), padding=(0, 2)),
    ),
}  # fmt: skip
EXPLAINERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "saliency": (attr.Saliency, {"abs": False}),
    "input x gradient": (attr.InputXGradient, {}),
    "integrated gradients": (attr.IntegratedGradients, {"n_steps": 6, "baseline": "mean"}),
    "occlusion": (attr.Occlusion, {"sliding_window_shapes": (4, 3, 5), "strides": (4, 3, 4), "baseline": 0.2}),
    "hyper noise tunnel": (
        lambda model: attr.HyperNoiseTunnel(attr.Saliency(model)),
        {"n_samples": 4, "baseline": 0.0},
    ),
}


def texture(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows + columns)
    return torch.randn((BANDS, rows, columns), generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return field(76, 84)


def compare(explainer: attr.Explainer, values: np.ndarray, chunk: Any, **arguments: Any) -> None:
    image = HSI(image=values, wavelengths=WAVELENGTHS)
    whole = attr.explain_scene(explainer, image, target=1, values=True, chunk=1000, **arguments)
    found = attr.explain_scene(explainer, image, target=1, values=True, chunk=chunk, **arguments)
    assert np.abs(whole["values"]).max() > 1e-3
    np.testing.assert_allclose(found["values"], whole["values"], atol=1e-10)
    np.testing.assert_allclose(found["mean_spectrum"], whole["mean_spectrum"], atol=1e-10)


@pytest.mark.parametrize("method", EXPLAINERS)
@pytest.mark.parametrize("name", ["convolutions", "u-net"])
def test_tiles_are_the_whole(name: str, method: str, values: np.ndarray) -> None:
    make, arguments = EXPLAINERS[method]
    compare(make(mapper(NETS[name])), values, (20, 24), **arguments)


def test_mean_spectra_of_tiles_share_the_sum_of_the_scene(values: np.ndarray) -> None:
    """By band, what the message on methods of bands offers instead: complete, and the sum over all pixels."""
    model = mapper(NETS["convolutions"])
    found = attr.explain_scene(attr.IntegratedGradients(model), scene(values), target=1, chunk=(20, 24), n_steps=40)
    by_band = found["mean_spectrum"][0, 0] * int(found["pixels"][0])
    image = torch.from_numpy(values)[None]
    with torch.no_grad():
        difference = model.forward_func(image)[0, 1] - model.forward_func(torch.zeros_like(image))[0, 1]
    np.testing.assert_allclose(by_band.sum(), difference, rtol=1e-6)
    alone = attr.IntegratedGradients(model).attribute(HSI(image=values, wavelengths=WAVELENGTHS), target=1, n_steps=40)
    np.testing.assert_allclose(by_band, alone.attributes.sum((1, 2)), rtol=1e-10)


@pytest.mark.parametrize("name", NETS)
def test_architectures(name: str, values: np.ndarray) -> None:
    compare(attr.Saliency(mapper(NETS[name])), values, (19, 33), abs=False)


def test_one_block_is_a_call_with_the_whole_scene(values: np.ndarray) -> None:
    for net in (NETS["u-net"], Excited()):
        explainer = attr.IntegratedGradients(mapper(net))
        image = HSI(image=values, wavelengths=WAVELENGTHS)
        found = attr.explain_scene(explainer, image, target=0, chunk=100, n_steps=5, values=True, baseline="mean")
        alone = explainer.attribute(image, target=0, n_steps=5, baseline="mean")
        np.testing.assert_allclose(found["values"][0], alone.attributes, atol=1e-12)


def test_maps_without_a_sum_are_summed(values: np.ndarray) -> None:
    """Of a model that gives maps, the target names a map."""
    net = mapper(NETS["u-net"]).forward_func.model  # type: ignore[attr-defined]
    bare = attr.Saliency(ExplainableModel(net, "classification"))
    with_sum = attr.Saliency(ExplainableModel(net, "segmentation", sums))
    for chunk in (24, 100):
        found, want = (attr.explain_scene(one, scene(values), target=1, chunk=chunk) for one in (bare, with_sum))
        np.testing.assert_allclose(found["map"], want["map"], atol=1e-12)


def test_scores_of_the_winning_class(values: np.ndarray) -> None:
    net = mapper(NETS["convolutions"]).forward_func.model  # type: ignore[attr-defined]
    model = ExplainableModel(net, "segmentation", agg_segmentation_postprocessing(soft_labels=True))
    compare(attr.Saliency(model), values, 30, abs=False)


def test_labels_and_masks_in_tiles(values: np.ndarray) -> None:
    holes = values.copy()
    holes[:, 30:34, 40:43] = np.nan
    labels = np.random.RandomState(0).randint(0, 3, values.shape[1:])
    explainer = attr.Saliency(mapper(NETS["convolutions"]))
    whole, found = (
        attr.explain_scene(explainer, scene(holes), target=0, pixels=labels, chunk=chunk) for chunk in (100, 21)
    )
    np.testing.assert_allclose(found["map"], whole["map"], atol=1e-12)
    np.testing.assert_allclose(found["mean_spectrum"], whole["mean_spectrum"], atol=1e-12)
    assert np.isnan(found["map"].values[0])[labels == 0].all()
    assert np.isnan(found["map"].values[0, 30:34, 40:43]).all()
    assert int(found["pixels"].sum()) == ((labels > 0) & ~np.isnan(holes[0])).sum()


# ---------------------------------------------------------------- the receptive field


@pytest.mark.parametrize(
    ("name", "overlap", "alignment"),
    [
        ("pixelwise", (0, 0), (1, 1)),
        ("convolutions", (4, 4), (1, 1)),
        ("dilated", (8, 8), (1, 1)),
        ("3-d", (2, 6), (1, 1)),
    ],
)
def test_overlap_is_two_receptive_fields(name: str, overlap: tuple[int, int], alignment: tuple[int, int]) -> None:
    """A pixel reaches as far as the layers' kernels say, down to the outputs and back to the input."""
    network = Network(mapper(NETS[name]), ("C", "H", "W"), None)
    assert measured_tiling(network, texture) == Tiling(overlap, alignment)


def test_strides_are_found() -> None:
    network = Network(mapper(UNet()), ("C", "H", "W"), None)
    assert measured_tiling(network, texture).alignment == (4, 4)


def test_weights_of_zero_count() -> None:
    """The receptive field is that of the architecture, whatever the weights are now."""
    model = mapper(convolutions())
    for parameter in model.forward_func.model.parameters():  # type: ignore[attr-defined]
        with torch.no_grad():
            parameter.zero_()
    assert measured_tiling(Network(model, ("C", "H", "W"), None), texture).overlap == (4, 4)


def test_tiles_end_where_the_scene_does() -> None:
    tiling = Tiling((5, 3), (4, 1))
    assert tiling.part(0, 0, 9, 100) == slice(0, 16)
    assert tiling.part(0, 20, 29, 100) == slice(12, 36)
    assert tiling.part(0, 90, 98, 99) == slice(84, 99)
    assert tiling.part(1, 20, 29, 100) == slice(17, 33)


# ---------------------------------------------------------------- what can't be cut


@pytest.mark.parametrize(
    ("net", "aggregate", "word"),
    [
        (Excited(), sums, "receptive field|512 x 512"),
        (nn.Sequential(nn.Conv2d(BANDS, 2, 1), nn.InstanceNorm2d(2)), sums, "512 x 512"),
        (Placed(), sums, "do not move"),
        (convolutions(), means, "sums over pixels"),
    ],
    ids=["excited", "instance norm", "coordinates", "mean"],
)
def test_global_models_are_refused(net: nn.Module, aggregate: Any, word: str, values: np.ndarray) -> None:
    inner = mapper(net).forward_func.model  # type: ignore[attr-defined]
    explainer = attr.Saliency(ExplainableModel(inner, "segmentation", aggregate))
    with pytest.raises(ValueError, match=word):
        attr.explain_scene(explainer, scene(values), target=0, chunk=30)
    assert attr.explain_scene(explainer, scene(values), target=0, chunk=100)["map"].notnull().all()


@pytest.mark.parametrize(("net", "overlap"), [(convolutions(), 1), (UNet(), 16), (Excited(), 20)])
def test_tiles_that_differ_from_the_whole_warn(net: nn.Module, overlap: int, values: np.ndarray) -> None:
    """Too small an overlap, no alignment, or a model that no overlap is enough for."""
    with pytest.warns(UserWarning, match="seams"):
        attr.explain_scene(attr.Saliency(mapper(net)), scene(values), target=0, chunk=32, overlap=overlap)


def test_overlap_that_is_enough_does_not_warn(values: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(attr.Saliency(mapper(UNet())), values, 32, overlap=32, alignment=4, abs=False)


def test_float32_networks(values: np.ndarray) -> None:
    explainer = attr.IntegratedGradients(mapper(UNet(), dtype=torch.float32))
    image = values.astype(np.float32)
    whole, found = (
        attr.explain_scene(explainer, scene(image), target=0, chunk=chunk, n_steps=5) for chunk in (100, 24)
    )
    np.testing.assert_allclose(found["map"], whole["map"], atol=1e-4 * float(np.abs(whole["map"]).max()))


@pytest.mark.parametrize(
    ("make", "arguments", "word"),
    [
        (attr.Lime, {"attribution_type": "spectral", "band_names": ["R"]}, "Lime.*mean_spectrum"),
        (attr.Occlusion, {"call": "get_spectral_attributes"}, "over bands.*mean_spectrum"),
        (attr.IntegratedGradients, {"baseline": np.zeros((BANDS, 76, 84))}, "baseline"),
        (lambda model: attr.HyperNoiseTunnel(attr.Saliency(model)), {"tolerance": 0.1}, "tolerance"),
        (attr.Saliency, {"stride": 2}, "stride"),
        (attr.Saliency, {"reduce": "window"}, "reduce"),
    ],
)
def test_methods_of_the_whole_image_are_refused(
    make: Any, arguments: dict[str, Any], word: str, values: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=word):
        attr.explain_scene(make(mapper(convolutions())), scene(values), target=0, chunk=30, **arguments)


def test_a_baseline_that_is_none_is_refused(values: np.ndarray) -> None:
    for chunk in (40, 100):
        with pytest.raises(TypeError, match="baseline"):
            attr.explain_scene(
                attr.IntegratedGradients(mapper(convolutions())),
                scene(values),
                target=0,
                chunk=chunk,
                baseline="median",
            )


def test_noise_warns(values: np.ndarray) -> None:
    explainer = attr.NoiseTunnel(attr.Saliency(mapper(convolutions())))
    with pytest.warns(UserWarning, match="noise"):
        attr.explain_scene(explainer, scene(values), target=0, chunk=40, n_samples=2, stdevs=0.1)


def test_classifiers_of_patches_need_a_window(values: np.ndarray) -> None:
    coarse = nn.Sequential(nn.Conv2d(BANDS, 3, 3, stride=2), nn.Tanh())
    patches = nn.Sequential(nn.Flatten(), nn.Linear(BANDS * 25, 2))
    for net in (coarse, patches):
        explainer = attr.Saliency(ExplainableModel(net.double(), "classification"))
        with pytest.raises(ValueError, match="window="):
            attr.explain_scene(explainer, scene(values), target=0, chunk=30)
