"""Images from iterators and from arrays of several: what a list of them gives."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import meteors_c
from meteors_c import HSI, attr
from meteors_c.attr import _groups
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.models import ExplainableModel
from tests.toys import SHAPE, WAVELENGTHS, cube, smooth, values

MODEL = ExplainableModel(smooth(), "classification")
BANDS = SHAPE[0]


@pytest.fixture(autouse=True)
def _groups_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_groups, "GROUP_IMAGES", 3)


SPECTRAL: dict[str, Any] = {
    "n_samples": 6, "band_mask": torch.arange(BANDS), "band_names": {str(band): band for band in range(BANDS)}
}  # fmt: skip
CALLS = {
    "saliency": lambda images: attr.Saliency(MODEL).attribute(images, target=1),
    "occlusion": lambda images: attr.Occlusion(MODEL).get_spectral_attributes(images, target=1),
    "all targets": lambda images: attr.Occlusion(MODEL).get_spectral_attributes(images, target="all"),
    "extra": lambda images: attr.Saliency(MODEL).attribute(hsi=images, target=2, abs=False),
    "tunnel": lambda images: attr.NoiseTunnel(attr.Saliency(MODEL)).attribute(images, target=1, stdevs=0.1),
    "lime": lambda images: attr.Lime(MODEL).get_spectral_attributes(images, target=1, **SPECTRAL),
    "shap": lambda images: attr.KernelShap(MODEL).attribute(images, target=1, attribution_type="spectral", **SPECTRAL),
}


def flat(results: Any) -> list[torch.Tensor]:
    return [one.attributes for of in results for one in (of if isinstance(of, list) else [of])]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.filterwarnings("ignore")
def test_iterators_give_what_lists_do(name: str, count: int) -> None:
    images = [cube(seed) for seed in range(count)]
    torch.manual_seed(4)
    want = CALLS[name](images)
    torch.manual_seed(4)
    found = CALLS[name](iter(images))
    assert isinstance(found, Iterator)
    for got, wanted in zip(flat(found), flat(want if count > 1 else [want]), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


def test_few_images_are_alive_at_a_time() -> None:
    alive: list[Any] = []

    def images() -> Iterator[HSI]:
        for seed in range(20):
            image = cube(seed)
            alive.append(weakref.ref(image))
            yield image

    most, count = 0, 0
    for result in attr.Saliency(MODEL).attribute(images(), target=0):
        count += 1
        del result
        most = max(most, sum(reference() is not None for reference in alive))
    assert count == 20
    assert most <= 7  # a group whose results are handed out, and the next one


def test_settings_are_those_of_the_call() -> None:
    with meteors_c.options(native=False):
        results = attr.Saliency(MODEL).attribute(iter([cube(), cube(1)]), target=0)
    assert all(
        result.report.model != attr.Saliency(MODEL).attribute(cube(), target=0).report.model for result in results
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"target": [0, 1]}, "target"),
        ({"target": torch.tensor([0, 1])}, "target"),
        ({"target": 0, "baseline": [0.0, 1.0]}, "baseline"),
        ({"target": 0, "additional_forward_args": attr.PerImage([1, 2])}, "PerImage"),
    ],
)
def test_one_entry_for_each_image_is_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        attr.IntegratedGradients(MODEL).attribute(iter([cube(), cube()]), **arguments)


def test_wrong_images_of_an_iterator() -> None:
    with pytest.raises(TypeError, match="HSI"):
        list(attr.Saliency(MODEL).attribute(iter([cube(), 5]), target=0))
    assert list(attr.Saliency(MODEL).attribute(iter([]), target=0)) == []


# ---------------------------------------------------------------- stacks


def test_stack_shares_memory() -> None:
    array = np.stack([values(seed).numpy() for seed in range(4)])
    for given in (array, torch.from_numpy(array)):
        images = HSI.stack(given, wavelengths=WAVELENGTHS)
        for image, part in zip(images, array, strict=True):
            assert np.shares_memory(image.image.numpy(), part)
            np.testing.assert_array_equal(image.image, part)
            assert image.wavelengths.tolist() == WAVELENGTHS
    found = attr.Saliency(MODEL).attribute(images, target=0)
    alone = attr.Saliency(MODEL).attribute(cube(2), target=0)
    torch.testing.assert_close(found[2].attributes, alone.attributes, rtol=0, atol=1e-12)


def test_stack_takes_masks_and_orientations() -> None:
    array = values(0, shape=(2, *SHAPE)).permute(0, 2, 3, 1)
    shared = torch.ones(SHAPE[1:], dtype=torch.bool)
    shared[0, 0] = False
    own = torch.rand(array.shape) > 0.5
    for mask in (shared, own, None, "artificial"):
        images = HSI.stack(array, wavelengths=WAVELENGTHS, orientation="HWC", binary_mask=mask)
        for i, image in enumerate(images):
            of = own[i] if mask is own else mask
            want = HSI(image=array[i], wavelengths=WAVELENGTHS, orientation="HWC", binary_mask=of)
            assert image == want


class Derived(HSI):
    pass


def test_stack_makes_the_class_that_it_is_called_on() -> None:
    assert all(type(one) is Derived for one in Derived.stack(torch.rand(2, *SHAPE), wavelengths=WAVELENGTHS))


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ((torch.rand(SHAPE),), ShapeMismatchError, "four axes"),
        (("scene",), TypeError, "images"),
        ((torch.rand(2, 6, 4, 3),), ShapeMismatchError, "wavelengths"),
        ((), TypeError, "argument"),
    ],
)
def test_stack_refuses(arguments: tuple[Any, ...], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        HSI.stack(*arguments, wavelengths=WAVELENGTHS)


def test_stack_refuses_further() -> None:
    with pytest.raises(ValueError, match="wavelengths"):
        HSI.stack(torch.rand(2, *SHAPE))
    with pytest.raises(ShapeMismatchError, match="3 images"):
        HSI.stack(torch.rand(2, *SHAPE), wavelengths=WAVELENGTHS, binary_mask=torch.ones(3, *SHAPE).bool())
    with pytest.raises(TypeError, match=r"HSI\.stack"):
        attr.Saliency(MODEL).attribute(torch.rand(2, *SHAPE), target=0)  # type: ignore[arg-type]
