"""NaN and infinity: refused in images, counted and said where models or products make them, harmless under a mask."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import (
    FeatureAblation,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from meteors_c.models import ExplainableModel
from tests.attr.tunnels import samples
from tests.parity.reference import assert_close
from tests.toys import (
    BANDS,
    ORIENTATIONS,
    PATHS,
    SHAPE,
    WAVELENGTHS,
    convolutional,
    cube,
    each_pair,
    each_value,
    explainable,
    name_of,
    smooth,
    spatial_mask,
    values,
)

NAN, INF = float("nan"), float("inf")
each_path = pytest.mark.parametrize("path", PATHS)
superpixels = torch.arange(SHAPE[1] * SHAPE[2]).reshape(SHAPE[1:])

# Every way to explain images, as a call of (model, images, arguments).
CALLS: dict[str, Callable[..., Any]] = {
    "Saliency": lambda model, images, **more: Saliency(model).attribute(images, **more),
    "InputXGradient": lambda model, images, **more: InputXGradient(model).attribute(images, **more),
    "IntegratedGradients": lambda model, images, **more: IntegratedGradients(model).attribute(images, **more),
    "Occlusion": lambda model, images, **more: Occlusion(model).attribute(images, **more),
    "Occlusion, pixels": lambda model, images, **more: Occlusion(model).get_spatial_attributes(images, **more),
    "Occlusion, bands": lambda model, images, **more: Occlusion(model).get_spectral_attributes(images, **more),
    "FeatureAblation": lambda model, images, **more: FeatureAblation(model).attribute(
        images, feature_mask=superpixels, **more
    ),
    "NoiseTunnel": lambda model, images, **more: NoiseTunnel(Saliency(model)).attribute(images, **more),
    "NoiseTunnel, products": lambda model, images, **more: NoiseTunnel(InputXGradient(model)).attribute(images, **more),
    "HyperNoiseTunnel": lambda model, images, **more: HyperNoiseTunnel(Saliency(model)).attribute(images, **more),
    "HyperNoiseTunnel, steps": lambda model, images, **more: HyperNoiseTunnel(IntegratedGradients(model)).attribute(
        images, **more
    ),
    "HyperNoiseTunnel, windows": lambda model, images, **more: HyperNoiseTunnel(Occlusion(model)).attribute(
        images, **more
    ),
}
FORWARD = [name for name in CALLS if name.startswith(("Occlusion", "FeatureAblation")) or "windows" in name]


def explain(name: str, model: Any, images: Any, target: Any = 0, **more: Any) -> Any:
    torch.manual_seed(6)
    model = model if isinstance(model, ExplainableModel) else explainable(model)
    return CALLS[name](model, images, target=target, **more)


def of_arrays(net: nn.Module) -> ExplainableModel:
    return explainable(lambda x: net(torch.from_numpy(x)).detach().numpy(), array_input=True)


def told(caught: Any) -> list[str]:
    assert [one.filename for one in caught] == [__file__] * len(caught)
    return [str(one.message) for one in caught]


def nonfinite(x: torch.Tensor) -> int:
    return int((~x.isfinite()).sum())


def with_values(*places: tuple[tuple[int, ...], float], seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    image = values(seed, dtype)
    for place, value in places:
        image[place] = value
    return image


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(("name", "path", "value"), each_pair(CALLS, PATHS, [NAN, INF, -INF]), ids=name_of)
def test_an_image_is_refused_with_the_place(name: str, path: str, value: float) -> None:
    others = [((4, row, column), INF) for row in (0, 3) for column in range(3)]
    hsi = cube(image=with_values(((3, 2, 1), value), *others))
    with mt.options(**PATHS[path]), pytest.raises(ValueError, match=r"band 3.*row 2.*column 1") as caught:
        explain(name, smooth(), hsi)
    assert "image 0" in str(caught.value)
    assert " 7 " in str(caught.value)  # how many there are


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_places_are_named_in_any_orientation(orientation: str) -> None:
    order = ["CHW".index(letter) for letter in orientation]
    image = with_values(((3, 2, 1), NAN)).permute(order)
    hsi = mt.HSI(image=image, wavelengths=WAVELENGTHS, orientation=orientation)
    with pytest.raises(ValueError, match=r"band 3.*row 2.*column 1"):
        Saliency(explainable(smooth())).attribute(hsi, target=0)


@pytest.mark.parametrize(("name", "path"), each_value(CALLS, PATHS), ids=name_of)
def test_the_image_of_a_list_is_named(name: str, path: str) -> None:
    images = [cube(0), cube(1), cube(image=with_values(((1, 0, 2), INF), seed=2)), cube(3)]
    with mt.options(**PATHS[path]), pytest.raises(ValueError, match=r"image 2.*band 1.*row 0.*column 2"):
        explain(name, smooth(), images)


@pytest.mark.parametrize("name", FORWARD)
def test_images_for_models_on_arrays(name: str) -> None:
    images = [cube(0), cube(image=with_values(((1, 0, 2), INF), seed=2))]
    with pytest.raises(ValueError, match=r"image 1.*band 1.*row 0.*column 2"):
        explain(name, of_arrays(smooth()), images)


@each_path
def test_the_model_is_not_asked_about_a_refused_image(path: str) -> None:
    calls = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return x.sum((1, 2, 3))

    for name in CALLS:
        with mt.options(**PATHS[path]), pytest.raises(ValueError, match="image 1"):
            explain(name, model, [cube(0), cube(image=with_values(((0, 0, 0), NAN)))], None)
    assert not calls


@pytest.mark.parametrize("finite", ["warn", "raise"])
def test_an_image_is_refused_whatever_becomes_of_outputs(finite: str) -> None:
    with mt.options(finite=finite), pytest.raises(ValueError, match="band 0"):
        Saliency(explainable(smooth())).attribute(cube(image=values() * NAN), target=0)


def test_every_dtype_is_looked_at() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        image = with_values(((3, 2, 1), NAN), dtype=dtype)
        with pytest.raises(ValueError, match=r"band 3.*row 2.*column 1"):
            Saliency(explainable(smooth(dtype=torch.float32))).attribute(cube(image=image), target=0)


@each_path
def test_ignore_looks_at_no_image(path: str) -> None:
    """For models that know what to do with no-data."""

    def model(x: torch.Tensor) -> torch.Tensor:
        return smooth()(torch.where(x.isfinite(), x, 0.25))

    hsi = cube(image=with_values(((3, 2, 1), NAN), ((4, 0, 0), -INF)))
    filled = cube(image=with_values(((3, 2, 1), 0.25), ((4, 0, 0), 0.25)))
    with mt.options(finite="ignore", **PATHS[path]), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Saliency(explainable(model)).attribute(hsi, target=0)
    wanted = Saliency(explainable(smooth())).attribute(filled, target=0).attributes
    assert_close(found.attributes, torch.where(hsi.image.isfinite(), wanted, 0.0), 1e-12)
    assert found.report.nonfinite_outputs == found.report.nonfinite_results == 0


# ---------------------------------------------------------------- under the mask


MASKED = [NAN, INF, -INF, -9999.0, 1e300, -3.4e38]


@pytest.mark.parametrize(("name", "path", "value"), each_pair(CALLS, PATHS, MASKED), ids=name_of)
def test_what_a_mask_hides_makes_no_difference(name: str, path: str, value: float) -> None:
    """Not even where it would be multiplied with 0: to the last bit."""
    mask = spatial_mask()
    images = [cube(image=torch.where(mask, values(i), value), binary_mask=mask) for i in range(2)]
    zeros = [cube(image=torch.where(mask, values(i), 0.0), binary_mask=mask) for i in range(2)]
    with mt.options(threads="all", **PATHS[path]), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain(name, convolutional(), images)
        wanted = explain(name, convolutional(), zeros)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.attributes, other.attributes)
        assert one.attributes.isfinite().all()
    assert found[0].report.nonfinite is None


@pytest.mark.parametrize("value", MASKED)
@pytest.mark.parametrize("name", FORWARD)
def test_what_a_mask_hides_from_models_on_arrays(name: str, value: float) -> None:
    mask = spatial_mask()
    hidden = cube(image=torch.where(mask, values(), value), binary_mask=mask)
    plain = cube(image=torch.where(mask, values(), 0.0), binary_mask=mask)
    found, wanted = (explain(name, of_arrays(smooth()), hsi) for hsi in (hidden, plain))
    assert torch.equal(found.attributes, wanted.attributes)


@pytest.mark.parametrize("explainer", [InputXGradient, IntegratedGradients])
@pytest.mark.parametrize("around", [None, NoiseTunnel, HyperNoiseTunnel])
def test_what_a_mask_hides_from_products_that_keep_their_graph(explainer: Any, around: Any) -> None:
    mask = spatial_mask()
    for value in (NAN, -9999.0):
        leaf = torch.where(mask, values(), value).requires_grad_()
        used = explainer(explainable(convolutional()))
        used = used if around is None else around(used)
        found = used.attribute(cube(image=leaf, binary_mask=mask), target=0, keep_gradient=True).attributes
        assert found.isfinite().all()
        (through,) = torch.autograd.grad(found.sum(), leaf)
        assert through.isfinite().all()
        assert through[~mask.expand(SHAPE)].eq(0).all()


def test_a_value_inside_the_mask_is_still_refused() -> None:
    image = with_values(((2, 0, 1), NAN), ((2, 1, 1), NAN))  # the first of them is hidden
    with pytest.raises(ValueError, match=r"band 2.*row 1.*column 1"):
        Saliency(explainable(smooth())).attribute(cube(image=image, binary_mask=spatial_mask()), target=0)


# ---------------------------------------------------------------- outputs


def log_of_means(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)).log()


def log_of_means_of_arrays(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x.mean((2, 3)))


def positive(seed: int = 0) -> torch.Tensor:
    return values(seed).abs() + 0.1


@pytest.mark.parametrize("path", [*PATHS, "arrays"])
def test_outputs_are_counted_said_once_and_kept(path: str) -> None:
    """Without one of its bands the model gives minus infinity for it."""
    model = explainable(log_of_means_of_arrays, array_input=True) if path == "arrays" else explainable(log_of_means)
    images = [cube(image=positive(i)) for i in range(2)]
    with mt.options(**PATHS.get(path, {})), pytest.warns(UserWarning, match="infinit") as caught:
        found = Occlusion(model).get_spectral_attributes(images, 2, 1, 1)
    assert len(told(caught)) == 1
    report = found[0].report
    assert report.nonfinite_outputs == 2  # band 2 of each image
    assert report.nonfinite_gradients == 0
    assert report.nonfinite_results == 2 * SHAPE[1] * SHAPE[2]
    assert "sample 3 of image 0" in report.nonfinite  # behind the image itself
    assert report.nonfinite in told(caught)[0]
    assert report.nonfinite in repr(report)
    for one in found:
        assert one.attributes[2].eq(INF).all()
        assert one.attributes[[0, 1, 3, 4]].eq(0).all()


@pytest.mark.parametrize("path", [*PATHS, "arrays"])
def test_all_outputs_infinite(path: str) -> None:
    """The zeros of single windows, seen by a mean of logarithms."""

    def of_arrays(x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(x).mean((2, 3))

    model = (
        explainable(of_arrays, array_input=True) if path == "arrays" else explainable(lambda x: x.log().mean((2, 3)))
    )
    hsi = cube(image=positive())
    with mt.options(**PATHS.get(path, {})), pytest.warns(UserWarning, match="infinit") as caught:
        found = Occlusion(model).get_spatial_attributes(hsi, 1, 1, 1)
    assert len(told(caught)) == 1
    assert found.report.nonfinite_outputs == 12
    assert found.attributes.eq(INF).all()
    assert "image 0" in found.report.nonfinite


@pytest.mark.parametrize("path", [*PATHS, "arrays"])
def test_raise_makes_an_error_of_them(path: str) -> None:
    model = explainable(log_of_means_of_arrays, array_input=True) if path == "arrays" else explainable(log_of_means)
    images = [cube(image=positive(i)) for i in range(2)]
    with mt.options(finite="raise", **PATHS.get(path, {})):
        with pytest.raises(FloatingPointError, match=r"infinit.*sample 3 of image 0"):
            Occlusion(model).get_spectral_attributes(images, 2, 1, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = Occlusion(model).get_spectral_attributes(images, 2, 1, 1, baseline=0.5)
    assert found[0].report.nonfinite is None
    assert found[0].attributes.isfinite().all()


@pytest.mark.parametrize("path", [*PATHS, "arrays"])
def test_ignore_says_nothing(path: str) -> None:
    model = explainable(log_of_means_of_arrays, array_input=True) if path == "arrays" else explainable(log_of_means)
    with mt.options(finite="ignore", **PATHS.get(path, {})), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Occlusion(model).get_spectral_attributes(cube(image=positive()), 2, 1, 1)
    assert found.attributes[2].eq(INF).all()


@pytest.mark.parametrize(("most", "path"), each_pair([1, 4, None], PATHS), ids=name_of)
def test_the_first_sample_is_named_whatever_the_batches(most: int | None, path: str) -> None:
    """The copies that a tunnel shows are known under a seed, and the model fails for some of them."""
    images = [cube(0), cube(1)]
    shown = [samples(NoiseTunnel, hsi, 6, n_samples=40) for hsi in images]
    limit = torch.cat(shown)[:, 0, 0, 0].quantile(0.97)
    failing = [(one[:, 0, 0, 0] > limit).nonzero()[:, 0].tolist() for one in shown]
    image, sample = next((i, of[0]) for i, of in enumerate(failing) if of)

    def model(x: torch.Tensor) -> torch.Tensor:
        return x.sum((1, 2, 3)) + torch.where(x[:, 0, 0, 0] > limit, NAN, 0.0)

    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="NaN"):
        report = explain("NoiseTunnel", model, images, None, n_samples=40, steps_per_batch=most)[0].report
    assert f"sample {sample} of image {image}" in report.nonfinite
    assert report.nonfinite_outputs == sum(map(len, failing))


@each_path
def test_outputs_at_single_steps(path: str) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        level = x.mean((1, 2, 3))
        return level + torch.where((level > 0.5) & (level < 0.6), INF, 0.0)

    ones = cube(image=torch.ones(SHAPE, dtype=torch.float64))
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="infinit") as caught:
        found = IntegratedGradients(explainable(model)).attribute(ones, n_steps=100, method="riemann_middle")
    assert len(told(caught)) == 1
    assert found.report.nonfinite_outputs == 10
    assert "sample 50 of image 0" in found.report.nonfinite
    assert_close(found.attributes, torch.full(SHAPE, 1 / 60, dtype=torch.float64), 1e-9)  # gradients are as they were


def test_all_targets_count_each_output() -> None:
    with pytest.warns(UserWarning, match="infinit"):
        found = Occlusion(explainable(log_of_means)).get_spectral_attributes(cube(image=positive()), "all", 1, 1)
    assert found[0].report.nonfinite_outputs == BANDS
    for band, one in enumerate(found):
        assert nonfinite(one.attributes) == SHAPE[1] * SHAPE[2]
        assert one.attributes[band].eq(INF).all()


# ---------------------------------------------------------------- gradients


def length_of_spectra(x: torch.Tensor) -> torch.Tensor:
    """Its gradient at a pixel of zeros is NaN."""
    return x.square().sum(1).sqrt().mean((1, 2))


def dark_pixel(seed: int = 0) -> torch.Tensor:
    image = values(seed).clone()
    image[:, 2, 1] = 0
    return image


@each_path
@pytest.mark.parametrize("method", [Saliency, InputXGradient])
def test_gradients_are_counted_said_once_and_kept(method: Any, path: str) -> None:
    images = [cube(0), cube(image=dark_pixel(1)), cube(image=dark_pixel(2))]
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="NaN") as caught:
        found = method(explainable(length_of_spectra)).attribute(images)
    assert len(told(caught)) == 1
    report = found[0].report
    assert report.nonfinite_outputs == 0
    assert report.nonfinite_gradients == 2
    assert report.nonfinite_results == 2 * BANDS
    assert "image 1" in report.nonfinite
    assert "gradient" in report.nonfinite
    assert found[0].attributes.isfinite().all()
    for one in found[1:]:
        assert one.attributes[:, 2, 1].isnan().all()
        assert nonfinite(one.attributes) == BANDS
    alone = method(explainable(length_of_spectra)).attribute(cube(0))
    assert_close(found[0].attributes, alone.attributes, 1e-12)


@each_path
@pytest.mark.parametrize("method", [Saliency, InputXGradient])
def test_gradients_are_an_error_if_wanted(method: Any, path: str) -> None:
    with mt.options(finite="raise", **PATHS[path]):
        with pytest.raises(FloatingPointError, match="gradient.*image 1"):
            method(explainable(length_of_spectra)).attribute([cube(0), cube(image=dark_pixel(1))])
        assert method(explainable(length_of_spectra)).attribute(cube(0)).attributes.isfinite().all()
    with mt.options(finite="ignore", **PATHS[path]), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert method(explainable(length_of_spectra)).attribute(cube(image=dark_pixel(1))).attributes.isnan().any()


@each_path
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("IntegratedGradients", {}),
        ("NoiseTunnel", {"stdevs": 0}),
        ("NoiseTunnel, products", {"stdevs": 0, "method": "vargrad"}),
        ("HyperNoiseTunnel", {"num_perturbed_bands": 2}),
        ("HyperNoiseTunnel", {"num_perturbed_bands": 2, "method": "smoothgrad_sq"}),
        ("HyperNoiseTunnel, steps", {"num_perturbed_bands": 2}),
    ],
)
def test_gradients_of_many_samples(name: str, given: dict[str, Any], path: str) -> None:
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="NaN") as caught:
        found = explain(name, length_of_spectra, [cube(0), cube(image=dark_pixel(1))], None, **given)
    assert len(told(caught)) == 1
    assert found[1].attributes[:, 2, 1].isnan().all()
    assert nonfinite(found[1].attributes) == BANDS
    report = found[0].report
    assert report.nonfinite_results == nonfinite(torch.stack([one.attributes for one in found]))
    assert report.nonfinite_gradients >= 1
    assert "gradient" in report.nonfinite


class Lengths(nn.Module):
    """A stem without a constant, so that a dark pixel's features are zeros; the length of features behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(BANDS, 4, 1, bias=False).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return length_of_spectra(self.stem(x))


def test_gradients_behind_a_shortcut() -> None:
    explainer = IntegratedGradients(explainable(Lengths()))
    with mt.options(shortcuts="always"), pytest.warns(UserWarning, match="NaN") as caught:
        found = explainer.attribute(cube(image=dark_pixel()))
    assert len(told(caught)) == 1
    with mt.options(shortcuts=False), pytest.warns(UserWarning, match="NaN"):
        plain = explainer.attribute(cube(image=dark_pixel()))
    assert found.attributes[:, 2, 1].isnan().all()
    torch.testing.assert_close(found.attributes, plain.attributes, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert found.report.nonfinite_results == plain.report.nonfinite_results == BANDS
    with mt.options(shortcuts="always", finite="raise"), pytest.raises(FloatingPointError):
        explainer.attribute(cube(image=dark_pixel()))


def test_outputs_behind_a_shortcut() -> None:
    """Windows behind which a logarithm sees nothing."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(BANDS, 2, 1, bias=False).double()
            self.stem.weight.data.fill_(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.stem(x).log().mean((1, 2, 3))

    image = torch.rand(BANDS, 9, 8, dtype=torch.float64) + 0.1
    hsi, explainer = mt.HSI(image=image, wavelengths=WAVELENGTHS), Occlusion(explainable(Model()))
    given: dict[str, Any] = {"sliding_window_shapes": (2, 2), "strides": (2, 2)}
    for path in ("shortcut", "plain"):
        with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="infinit"):
            found = explainer.get_spatial_attributes(hsi, **given)
        assert found.report.nonfinite_outputs == 20
        assert found.attributes.eq(INF).all()
        assert "sample 1 of image 0" in found.report.nonfinite
        with mt.options(finite="raise", **PATHS[path]), pytest.raises(FloatingPointError):
            explainer.get_spatial_attributes(hsi, **given)


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("path", [*PATHS, "arrays"])
def test_the_no_data_value_of_an_unmasked_image(path: str) -> None:
    """-3.4e38 is a number in single precision; what a model makes of it may not be, and that is not silent."""
    image = values(0, torch.float32)
    image[:, 2, 1] = -3.4e38

    def energy(x: Any) -> Any:
        return (x * x).sum((1, 2, 3))[:, None]

    model = explainable(energy, array_input=True) if path == "arrays" else explainable(energy)
    with mt.options(**PATHS.get(path, {})), np.errstate(over="ignore"):
        for name in FORWARD if path == "arrays" else CALLS:
            with pytest.warns(UserWarning, match="NaN|infinit"):
                report = explain(name, model, cube(image=image)).report
            assert report.nonfinite_outputs > 0


@each_path
def test_products_that_overflow(path: str) -> None:
    """Output and gradient are numbers, their product is not."""
    image = values(0, torch.float32).clone()
    image[1, 2, 1] = 3e38

    def model(x: torch.Tensor) -> torch.Tensor:
        return (x.clamp(-1, 1) + 20 * (x - x.detach())).sum((1, 2, 3))

    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="infinit") as caught:
        found = InputXGradient(explainable(model)).attribute([cube(0, torch.float32), cube(image=image)])
    assert len(told(caught)) == 1
    report = found[0].report
    assert (report.nonfinite_outputs, report.nonfinite_gradients, report.nonfinite_results) == (0, 0, 1)
    assert "image 1" in report.nonfinite
    assert found[1].attributes[1, 2, 1] == INF
    assert nonfinite(found[1].attributes) == 1
    with mt.options(finite="raise", **PATHS[path]), pytest.raises(FloatingPointError, match="image 1"):
        InputXGradient(explainable(model)).attribute([cube(0, torch.float32), cube(image=image)])


@each_path
def test_finite_models_say_nothing(path: str) -> None:
    for name in CALLS:
        with mt.options(**PATHS[path]), warnings.catch_warnings():
            warnings.simplefilter("error")
            report = explain(name, convolutional(), [cube(0), cube(1)])[0].report
        assert report.nonfinite is None
        assert report.nonfinite_outputs == report.nonfinite_gradients == report.nonfinite_results == 0
