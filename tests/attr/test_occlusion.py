"""Occlusion: windows by hand, masks of windows, and what it does not evaluate."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c import HSI
from meteors_c.attr import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral, Occlusion
from meteors_c.models import ExplainableModel
from tests.parity.reference import assert_close
from tests.parity.reference_perturbation import occlusion
from tests.toys import (
    COMPANY,
    ORIENTATIONS,
    PATHS,
    SHAPE,
    WAVELENGTHS,
    Grid,
    Linear,
    Quadratic,
    Watched,
    convolutional,
    cube,
    each_value,
    evaluated,
    explainable,
    smooth,
    spatial_mask,
    traced,
    values,
)


def attribute(model: Any, hsi: Any, *args: Any, **kwargs: Any) -> Any:
    return Occlusion(explainable(model)).attribute(hsi, *args, **kwargs)


def line(*numbers: float) -> HSI:
    """One pixel."""
    return HSI(
        image=torch.tensor(numbers, dtype=torch.float64).reshape(-1, 1, 1), wavelengths=list(range(1, len(numbers) + 1))
    )


def total(x: torch.Tensor) -> torch.Tensor:
    return x.sum((1, 2, 3))


def turned(orientation: str, **fields: Any) -> HSI:
    """An image whose values and mask lie in memory as the orientation says."""
    order = ["CHW".index(letter) for letter in orientation]
    fields = {name: value.permute(order).contiguous() for name, value in {"image": values(), **fields}.items()}
    return HSI(**fields, wavelengths=WAVELENGTHS, orientation=orientation)


# ---------------------------------------------------------------- windows by hand


@pytest.mark.parametrize(
    ("window", "stride", "wanted"),
    [
        (1, 1, [1, 2, 4, 8, 16]),
        (2, 2, [3, 3, 12, 12, 16]),  # the last window is cut off, not shifted
        (3, 2, [7, 7, (7 + 28) / 2, 28, 28]),
        (3, 1, [7, (7 + 14) / 2, (7 + 14 + 28) / 3, (14 + 28) / 2, 28]),
        (4, 3, [15, 15, 15, (15 + 24) / 2, 24]),
        (5, 1, [31] * 5),
        (5, 9, [31] * 5),  # spans the image: the stride does not matter
    ],
)
def test_windows_by_hand(window: int, stride: int, wanted: list[float]) -> None:
    hsi = line(1, 2, 4, 8, 16)
    boxes = attribute(total, hsi, None, (window, 1, 1), (stride, 1, 1)).attributes
    bands = Occlusion(explainable(total)).get_spectral_attributes(hsi, None, window, stride).attributes
    assert boxes.flatten().tolist() == wanted
    assert torch.equal(bands, boxes)


def test_windows_by_hand_in_two_directions() -> None:
    """f = (sum x)^2 on a plane of ones, 3 x 3, windows 2 x 2 at stride 1: 81 - 25 for each, whatever it overlaps."""
    hsi = HSI(image=torch.ones(1, 3, 3), wavelengths=[500.0])
    found = Occlusion(explainable(lambda x: total(x) ** 2)).get_spatial_attributes(hsi, None, (2, 2), 1)
    assert found.attributes.flatten().tolist() == [56.0] * 9
    cut = Occlusion(explainable(lambda x: total(x) ** 2)).get_spatial_attributes(hsi, None, (2, 2), 2)
    assert cut.attributes[0].tolist() == [[56, 56, 32], [56, 56, 32], [32, 32, 17]]


def test_the_baseline_by_hand() -> None:
    """Window (1, 2) becomes 5 and 0 in turn: f loses (1 + 2) - 10 or 3."""
    hsi = line(1, 2, 4, 8)
    assert attribute(total, hsi, None, (2, 1, 1), (2, 1, 1), 5).attributes.flatten().tolist() == [-7, -7, 2, 2]
    baseline = torch.tensor([1.0, 0.0, 4.0, 1.0]).reshape(4, 1, 1)
    assert attribute(total, hsi, None, (2, 1, 1), (2, 1, 1), baseline).attributes.flatten().tolist() == [2, 2, 7, 7]


# ---------------------------------------------------------------- against plain torch

GRIDS: list[tuple[Any, Any]] = [
    (1, 1),
    (2, 1),
    (2, 2),
    (3, 2),
    ((2, 3, 1), (1, 2, 1)),
    ((5, 1, 2), (3, 1, 2)),
    ((4, 4, 3), (4, 4, 3)),
    ((1, 4, 3), (1, 9, 3)),
]


@pytest.mark.parametrize(("grid", "path"), each_value(GRIDS, ["plain", "shortcut", "python calls"]), ids=str)
def test_windows_in_three_directions(grid: tuple[Any, Any], path: str) -> None:
    window, stride = grid
    model, baseline = convolutional(), values(3)
    hsi = cube(binary_mask=spatial_mask())
    with mt.options(**PATHS[path]):
        found = attribute(model, hsi, 1, window, stride, baseline)
    assert_close(found.attributes, occlusion(model, hsi.get_image(), window, stride, baseline, 1))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_windows_of_pixels_on_every_orientation(orientation: str) -> None:
    """Sizes are those of the two spatial axes as they stand."""
    hsi, model = turned(orientation, binary_mask=spatial_mask().expand(SHAPE)), smooth()
    found = Occlusion(explainable(model)).get_spatial_attributes(hsi, 0, (3, 2), (2, 1), 0.5)
    window, stride = [3, 2], [2, 1]
    window.insert(hsi.spectral_axis, 5)
    stride.insert(hsi.spectral_axis, 5)
    assert_close(found.attributes, occlusion(model, hsi.get_image(), window, stride, 0.5, 0))
    assert torch.equal(found.attributes, attribute(model, hsi, 0, tuple(window), tuple(stride), 0.5).attributes)
    assert isinstance(found, HSIAttributesSpatial)
    assert found.orientation == tuple(orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_windows_of_bands_on_every_orientation(orientation: str) -> None:
    hsi, model = turned(orientation), smooth()
    found = Occlusion(explainable(model)).get_spectral_attributes(hsi, 0, (3,), 2, 0.5)
    window, stride = list(hsi.image.shape), list(hsi.image.shape)
    window[hsi.spectral_axis], stride[hsi.spectral_axis] = 3, 2
    assert_close(found.attributes, occlusion(model, hsi.image, window, stride, 0.5, 0))
    assert isinstance(found, HSIAttributesSpectral)
    bands = found.attributes.movedim(hsi.spectral_axis, 0)
    assert torch.equal(bands, bands[:, :1, :1].expand_as(bands))
    assert torch.equal(found.flattened_attributes, bands[:, 0, 0])


def test_orientation_is_only_a_way_of_writing_it_down() -> None:
    model = convolutional()
    wanted = Occlusion(explainable(model)).get_spatial_attributes(cube(), 0, (2, 3), (1, 2)).attributes
    turned_model = explainable(lambda x: model(x.permute(0, 3, 2, 1)))
    found = Occlusion(turned_model).get_spatial_attributes(turned("WHC"), 0, (3, 2), (2, 1))
    assert_close(found.attributes.permute(2, 1, 0), wanted, 1e-13)


# ---------------------------------------------------------------- the mask of windows


def ids(shape: Sequence[int], windows: Sequence[int], strides: Sequence[int], axes: Sequence[int]) -> torch.Tensor:
    """Window by window, each written over those before; numbered row by row."""
    mask = torch.zeros(tuple(shape), dtype=torch.int32)
    counts = []
    for axis, window, stride in zip(axes, windows, strides, strict=True):
        whole = (shape[axis] - window) % stride == 0
        counts.append(shape[axis] // stride if whole else shape[axis] // stride + 1)
    for number, position in enumerate(itertools.product(*map(range, counts)), start=1):
        box = [slice(None)] * 3
        for axis, window, stride, step in zip(axes, windows, strides, position, strict=True):
            box[axis] = slice(step * stride, step * stride + window)
        mask[tuple(box)] = number
    return mask


@pytest.mark.parametrize(
    ("grid", "orientation"),
    each_value([(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 2)], ORIENTATIONS),
    ids=str,
)
def test_mask_of_pixels(grid: tuple[int, int], orientation: str) -> None:
    window, stride = grid
    sizes = dict(zip("CHW", (2, 9, 7), strict=True))
    shape = [sizes[letter] for letter in orientation]
    hsi = HSI(image=torch.ones(shape), wavelengths=[1.0, 2.0], orientation=orientation)
    axes = [axis for axis in range(3) if axis != hsi.spectral_axis]
    windows, strides = (window, min(window + 1, 7)), (stride, stride)
    found = Occlusion(explainable(total)).get_spatial_attributes(hsi, None, windows, strides)
    assert found.mask.dtype == torch.int32
    assert found.mask.shape == found.attributes.shape
    assert torch.equal(found.mask, ids(shape, windows, strides, axes))
    assert torch.equal(found.segmentation_mask, found.mask.select(hsi.spectral_axis, 0))


@pytest.mark.parametrize(
    ("grid", "orientation"),
    each_value([(1, 1), (2, 1), (3, 2), (4, 4), (4, 3), (8, 6), (11, 4), (11, 11)], ORIENTATIONS),
    ids=str,
)
def test_mask_and_names_of_bands(grid: tuple[int, int], orientation: str) -> None:
    window, stride = grid
    sizes = dict(zip("CHW", (11, 2, 3), strict=True))
    shape = [sizes[letter] for letter in orientation]
    hsi = HSI(image=torch.ones(shape), wavelengths=list(range(1, 12)), orientation=orientation)
    found = Occlusion(explainable(total)).get_spectral_attributes(hsi, None, window, stride)
    wanted = ids(shape, [window], [stride], [hsi.spectral_axis])
    assert found.mask.dtype == torch.int32
    assert torch.equal(found.mask, wanted)
    numbers = sorted(set(wanted.flatten().tolist()))
    assert found.band_names == {str(number): number for number in numbers}
    assert list(found.band_names) == [str(number) for number in numbers]
    assert torch.equal(found.band_mask, wanted.movedim(hsi.spectral_axis, 0)[:, 0, 0])


def test_windows_in_three_directions_have_no_mask() -> None:
    found = attribute(total, cube())
    assert type(found) is HSIAttributes
    assert found.mask is None


# ---------------------------------------------------------------- arguments


def test_names_and_defaults_are_those_of_the_peer() -> None:
    before = {"hsi": inspect.Parameter.empty, "target": None}
    after = {
        "baseline": None,
        "additional_forward_args": None,
        "perturbations_per_eval": None,
        "show_progress": False,
    }
    for call, window, stride in [
        (Occlusion.attribute, (1, 1, 1), (1, 1, 1)),
        (Occlusion.get_spatial_attributes, (1, 1), 1),
        (Occlusion.get_spectral_attributes, 1, 1),
    ]:
        wanted = {**before, "sliding_window_shapes": window, "strides": stride, **after}
        found = {name: one.default for name, one in inspect.signature(call).parameters.items() if name != "self"}
        assert list(found.items())[: len(wanted)] == list(wanted.items())


def test_defaults_take_away_one_value_pixel_or_band_at_a_time() -> None:
    model = Linear()
    gone = (cube().image * model.weight[1]).detach()
    explainer = Occlusion(explainable(model))
    assert_close(explainer.attribute(cube(), 1).attributes, gone, 1e-13)
    pixels = explainer.get_spatial_attributes(cube(), 1)
    assert_close(pixels.attributes, gone.sum(0, keepdim=True).expand(SHAPE), 1e-13)
    assert pixels.segmentation_mask.flatten().tolist() == list(range(1, 13))
    bands = explainer.get_spectral_attributes(cube(), 1)
    assert_close(bands.attributes, gone.sum((1, 2), keepdim=True).expand(SHAPE), 1e-13)
    assert bands.band_mask.tolist() == [1, 2, 3, 4, 5]


def test_result() -> None:
    hsi = cube(dtype=torch.float32)
    for call in (Occlusion.attribute, Occlusion.get_spatial_attributes, Occlusion.get_spectral_attributes):
        found = call(Occlusion(explainable(smooth(dtype=torch.float32))), hsi, 1)
        assert found.hsi is hsi
        assert found.attribution_method == "Occlusion"
        assert found.score is None
        assert found.target == 1
        assert found.attributes.shape == SHAPE
        assert found.attributes.dtype == torch.float32
        assert not found.attributes.requires_grad


def test_properties() -> None:
    explainer = Occlusion(explainable(smooth()))
    assert explainer.get_name() == "Occlusion"
    assert explainer.multiplies_by_inputs
    assert not explainer.has_convergence_delta()
    assert explainer._attribution_method is not None
    with pytest.raises(NotImplementedError):
        explainer.compute_convergence_delta()


def test_without_its_method_every_call_says_so_first() -> None:
    explainer = Occlusion(explainable(smooth()))
    explainer._attribution_method = None
    for call in (explainer.attribute, explainer.get_spatial_attributes, explainer.get_spectral_attributes):
        with pytest.raises(RuntimeError, match="attribution method"):
            call("no image")


def test_what_the_caller_gave_is_unchanged() -> None:
    images, baselines, targets = [cube(0), cube(1)], [values(4), 0.5], [0, 1]
    attribute(convolutional(), images, targets, 2, 2, baselines)
    assert [torch.equal(hsi.image, values(seed)) for seed, hsi in enumerate(images)] == [True, True]
    assert [hsi.image._version for hsi in images] == [0, 0]
    assert torch.equal(baselines[0], values(4))
    assert (len(images), baselines[1:], targets) == (2, [0.5], [0, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_floating_dtype_is_kept(dtype: torch.dtype) -> None:
    found = attribute(smooth(dtype=dtype), cube(dtype=dtype), 0, 2, 2).attributes
    assert found.dtype == dtype
    assert_close(found, occlusion(smooth(dtype=dtype), values(0, dtype), 2, 2, 0.0, 0))


def test_double_precision_all_the_way() -> None:
    """A difference of 1e-12 of the output, which float32 would lose."""
    found = attribute(lambda x: 1.0 + 1e-12 * total(x), line(1.0, 0.5), None, 1, 1).attributes
    assert found.flatten().tolist() == pytest.approx([1e-12, 5e-13], rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8], ids=str)
def test_integer_images_are_explained_as_float32(dtype: torch.dtype) -> None:
    image = (100 * values().abs()).to(dtype)
    model = smooth(dtype=torch.float32)
    found = attribute(model, cube(image=image), 0, 2, 2, 7).attributes
    assert_close(found, occlusion(model, image.float(), 2, 2, 7.0, 0))
    names = Occlusion(explainable(model)).get_spectral_attributes(cube(image=image), 0, 2, 2).band_names
    assert list(names) == ["1", "2", "3"]


@pytest.mark.parametrize("target", [(1, 2), -1, torch.tensor(2), torch.tensor([2])], ids=str)
def test_targets(target: Any) -> None:
    model = Grid() if isinstance(target, tuple) else convolutional()
    one = target if isinstance(target, tuple) else int(target)
    assert_close(attribute(model, cube(), target, 2, 2).attributes, occlusion(model, values(), 2, 2, 0.0, one))


# ---------------------------------------------------------------- lists of images


@pytest.mark.parametrize(
    ("path", "most"), [("shortcut", None), ("plain", 1), ("plain", 5), ("shortcut", 5), ("python calls", 5)]
)
def test_a_list_is_as_its_images_one_by_one(path: str, most: int | None) -> None:
    model = convolutional()
    images = [cube(0), cube(1, binary_mask=spatial_mask()), cube(2)]
    targets, baselines = [2, 0, 1], [values(5), 0.25, None]
    explainer = Occlusion(explainable(model))
    with mt.options(**PATHS[path]):
        for call in (explainer.attribute, explainer.get_spatial_attributes, explainer.get_spectral_attributes):
            found = call(images, targets, 2, 1, baselines, perturbations_per_eval=most)
            assert isinstance(found, list)
            for one, hsi, target, baseline in zip(found, images, targets, baselines, strict=True):
                alone = call(hsi, target, 2, 1, baseline)
                assert one.hsi is hsi
                assert one.target == target
                assert type(one) is type(alone)
                assert_close(one.attributes, alone.attributes, 1e-13)


def test_a_list_of_one_gives_the_bare_result() -> None:
    found = attribute(smooth(), [cube()], [1], 2, 2, [0.5])
    assert_close(found.attributes, attribute(smooth(), cube(), 1, 2, 2, 0.5).attributes, 1e-13)


def test_additional_arguments_follow_their_image() -> None:
    model = Linear()

    def scaled(x: torch.Tensor, factor: torch.Tensor, shift: float) -> torch.Tensor:
        assert len(factor) == len(x)
        return model(x) * factor[:, None] + shift

    factors = torch.tensor([2.0, -3.0], dtype=torch.float64)
    found = attribute(scaled, [cube(0), cube(1)], 0, 1, 1, 0, (factors, 9.0), 4)
    for one, hsi, factor in zip(found, [cube(0), cube(1)], factors, strict=True):
        assert_close(one.attributes, (factor * hsi.image * model.weight[0]).detach(), 1e-12)


# ---------------------------------------------------------------- batches, progress, memory


@pytest.mark.parametrize(("most", "path"), each_value([1, 2, 7, 61, 1000], PATHS))
def test_the_model_never_sees_more_than_it_may(most: int, path: str) -> None:
    model = Watched(smooth())
    with mt.options(**PATHS[path]):
        found = attribute(model, [cube(0), cube(1)], 0, perturbations_per_eval=most)
    assert max(model.sizes) <= most
    assert found[0].report.chunk_first == min(most, 2 * 61)
    if path != "shortcut":
        assert model.sizes[0] == min(most, 2 * 61)
    assert found[0].report.evaluations == 2 * 61
    assert sum(model.sizes) == evaluated(found[0].report)


def test_the_image_is_evaluated_once() -> None:
    model = Watched(smooth())
    found = Occlusion(explainable(model)).get_spectral_attributes(cube(), 0, 2, 2)
    assert found.report.evaluations == 1 + 3
    assert sum(model.sizes) == evaluated(found.report)


@pytest.mark.parametrize("most", [4, None])
def test_progress_counts_every_window(most: int | None) -> None:
    told: list[tuple[int, int]] = []
    hsi = cube(binary_mask=spatial_mask())
    attribute(smooth(), hsi, 0, perturbations_per_eval=most, show_progress=lambda *pair: told.append(pair))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (61, 61)


@pytest.mark.parametrize("shortcuts", [False, "always"])
def test_memory_does_not_depend_on_the_number_of_windows(shortcuts: bool | str) -> None:
    """A shortcut that is tried takes the room of one more image: whether it is must not be left to the machine."""
    hsi = HSI(image=values(0, torch.float32, (16, 48, 48)), wavelengths=list(range(1, 17)))
    with mt.options(shortcuts=shortcuts):
        few = attribute(total, hsi, None, (16, 24, 48), (16, 24, 48), perturbations_per_eval=3).report
        many = attribute(total, hsi, None, (4, 4, 4), (4, 4, 4), perturbations_per_eval=3).report
    assert (few.evaluations, many.evaluations) == (3, 577)
    assert many.peak_bytes <= 1.05 * few.peak_bytes
    if shortcuts is False:
        assert many.peak_bytes < 5 * 4 * 16 * 48 * 48


# ---------------------------------------------------------------- what is not evaluated


@pytest.mark.parametrize(("most", "path"), each_value([1, 3, None], PATHS))
def test_masked_windows_are_known_to_make_no_difference(most: int | None, path: str) -> None:
    mask = torch.ones(1, 4, 3, dtype=torch.bool)
    mask[:, 2:] = False
    hsi, model = cube(binary_mask=mask), Watched(smooth())
    with mt.options(**PATHS[path]):
        found = Occlusion(explainable(model)).get_spatial_attributes(hsi, 0, 1, 1, perturbations_per_eval=most)
    assert found.report.evaluations_saved == 6
    assert found.report.evaluations == 7
    assert sum(model.sizes) == evaluated(found.report)
    assert found.attributes[:, 2:].eq(0).all()
    assert_close(found.attributes, occlusion(model.body, hsi.get_image(), (5, 1, 1), (5, 1, 1), 0.0, 0))


def test_the_baseline_decides_what_is_not_evaluated() -> None:
    """The baseline is not masked: behind the mask it is a change, unless it is 0 there."""
    hsi = cube(binary_mask=spatial_mask())
    for baseline, saved in [(None, 10), (0.0, 10), (-0.0, 10), (0.5, 0), (hsi.get_image(), 60), (hsi.image, 50)]:
        found = attribute(smooth(), hsi, 0, 1, 1, baseline)
        assert found.report.evaluations_saved == saved
        assert found.report.evaluations == 61 - saved
        wanted = occlusion(smooth(), hsi.get_image(), 1, 1, 0.0 if baseline is None else baseline, 0)
        assert_close(found.attributes, wanted, None if saved < 60 else 0.0)


def test_each_image_saves_its_own_windows() -> None:
    dark = HSI(image=torch.zeros(SHAPE, dtype=torch.float64), wavelengths=WAVELENGTHS)
    for images in ([dark, cube()], [cube(), dark], [cube(), dark, cube(1)]):
        found = attribute(smooth(), images, 0, 2, 2, perturbations_per_eval=4)
        assert found[0].report.evaluations_saved == 12
        for one, hsi in zip(found, images, strict=True):
            assert_close(one.attributes, occlusion(smooth(), hsi.image, 2, 2, 0.0, 0))


def test_a_window_that_holds_one_other_value_is_evaluated() -> None:
    image = torch.zeros(SHAPE, dtype=torch.float64)
    image[4, 3, 2] = 1e-300
    model = Watched(Linear())
    found = attribute(model, cube(image=image), 0, (5, 2, 3), (5, 2, 3))
    assert found.report.evaluations_saved == 1
    assert found.report.evaluations == 2
    assert sum(model.sizes) == evaluated(found.report)


# ---------------------------------------------------------------- all targets from one sweep


@pytest.mark.parametrize(
    ("name", "path"),
    each_value(["get_spectral_attributes", "get_spatial_attributes", "attribute", "attribute"], PATHS),
)
def test_all_targets_are_as_separate_runs_at_the_cost_of_one(name: str, path: str) -> None:
    images = [cube(0), cube(1, binary_mask=spatial_mask())]
    model = Watched(convolutional())
    call = getattr(Occlusion(explainable(model)), name)
    with mt.options(**PATHS[path]):
        alone = [call(images, target, 2, 1) for target in range(3)]
        one_sweep = (sum(model.sizes) - COMPANY.get(path, 0)) // 3
        model.sizes.clear()
        found = call(images, "all", 2, 1)
        assert sum(model.sizes) == one_sweep
        assert found[0][0].report.evaluations == alone[0][0].report.evaluations
    assert [len(of) for of in found] == [3, 3]
    for i, target in itertools.product(range(2), range(3)):
        assert found[i][target].hsi is images[i]
        assert found[i][target].target == target
        assert type(found[i][target]) is type(alone[target][i])
        assert_close(found[i][target].attributes, alone[target][i].attributes, 1e-13)
        assert (found[i][target].mask is None) == (name == "attribute")


@pytest.mark.parametrize("most", [4, None])
def test_some_targets(most: int | None) -> None:
    explainer = Occlusion(explainable(convolutional()))
    found = explainer.attribute(cube(), [2, 0, -1, 2], 2, 2, perturbations_per_eval=most, per_target=True)
    assert [one.target for one in found] == [2, 0, -1, 2]
    for one, target in zip(found, [2, 0, 2, 2], strict=True):
        assert_close(one.attributes, explainer.attribute(cube(), target, 2, 2).attributes, 1e-13)


def test_targets_that_are_tuples() -> None:
    found = attribute(Grid(), cube(), [(1, 2), (0, 1)], 2, 2, per_target=True)
    for one, target in zip(found, [(1, 2), (0, 1)], strict=True):
        assert one.target == target
        assert_close(one.attributes, attribute(Grid(), cube(), target, 2, 2).attributes, 1e-13)


def test_all_targets_of_outputs_with_two_axes() -> None:
    """Each result names its target as the call for it alone would."""
    found = attribute(Grid(), cube(), "all", 2, 2)
    assert len(found) == 6
    assert [one.target for one in found] == list(itertools.product(range(2), range(3)))
    assert_close(found[5].attributes, attribute(Grid(), cube(), (1, 2), 2, 2).attributes, 1e-13)


def test_all_targets_of_a_model_with_one_output() -> None:
    (found,) = attribute(total, cube(), "all", 2, 2)
    assert_close(found.attributes, attribute(total, cube(), None, 2, 2).attributes, 1e-13)


def test_all_targets_of_a_masked_image() -> None:
    found = attribute(convolutional(), cube(binary_mask=torch.zeros(SHAPE).bool()), "all")
    assert found[0].report.evaluations == 1
    assert [bool(one.attributes.eq(0).all()) for one in found] == [True] * 3


# ---------------------------------------------------------------- models of every kind


@pytest.mark.parametrize(("native", "target"), [(True, 0), (False, "all")])
def test_models_on_arrays(native: bool, target: Any) -> None:
    weight = Linear().weight.detach().numpy()

    def model(x: np.ndarray) -> np.ndarray:
        assert isinstance(x, np.ndarray)
        sizes.append(len(x))
        return np.einsum("nabc,kabc->nk", x, weight)

    sizes: list[int] = []
    with mt.options(native=native):
        explainer = Occlusion(ExplainableModel(model, "regression", array_input=True))
        found = explainer.attribute(cube(), target, 2, 2, perturbations_per_eval=3)
    assert max(sizes) == 3
    wanted = occlusion(Linear(), values(), 2, 2, 0.0, 0)
    assert_close((found[0] if target == "all" else found).attributes, wanted)


@pytest.mark.parametrize("path", ["shortcut", "python calls"])
def test_models_that_have_no_gradient(path: str) -> None:
    """Occlusion asks for outputs alone, outside autograd."""

    def model(x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return torch.from_numpy(np.sort(x.numpy().reshape(len(x), -1))[:, -3:].copy())

    with mt.options(**PATHS[path]):
        found = attribute(model, cube(), 0, 2, 2).attributes
    assert_close(found, occlusion(model, values(), 2, 2, 0.0, 0))


@pytest.mark.parametrize("path", ["shortcut", "python calls"])
def test_models_that_give_one_number_for_a_batch(path: str) -> None:
    """A mean over the batch would make differences too small."""
    net = smooth(1)
    with mt.options(**PATHS[path]):
        found = attribute(lambda x: net(x).mean(), [cube(0), cube(1)], None, 2, 2, perturbations_per_eval=5)
        every = attribute(lambda x: net(x).mean(), cube(0), "all", 2, 2)
    for seed, one in enumerate(found):
        assert_close(one.attributes, occlusion(lambda x: net(x)[:, 0], values(seed), 2, 2))
    assert_close(every[0].attributes, found[0].attributes, 1e-13)


@pytest.mark.parametrize(
    ("path", "most"), [("shortcut", 1), ("shortcut", 5), ("python calls", 1), ("python calls", None)]
)
def test_models_that_write_into_their_input(path: str, most: int | None) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return total(x.mul_(2).add_(1) ** 2)

    with mt.options(**PATHS[path]):
        found = attribute(model, cube(), None, 2, 2, 0.5, perturbations_per_eval=most).attributes
    assert_close(found, occlusion(lambda x: total((2 * x + 1) ** 2), values(), 2, 2, 0.5))


@pytest.mark.parametrize("path", ["shortcut", "python calls"])
def test_models_that_keep_their_input(path: str) -> None:
    """What a model keeps is what it saw: the image, then every window in turn; behind a shortcut some of them."""

    def model(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return total(x)

    kept: list[torch.Tensor] = []
    with mt.options(**PATHS[path]):
        Occlusion(explainable(model)).get_spectral_attributes(cube(), None, 2, 2, 9, perturbations_per_eval=1)
    wanted = [values(), *(values().clone() for _ in range(3))]
    for window in range(3):
        wanted[window + 1][2 * window : 2 * window + 2] = 9
    if path == "shortcut":
        assert all(any(torch.equal(one, other) for other in wanted) for one in torch.cat(kept))
    else:
        torch.testing.assert_close(torch.cat(kept), torch.stack(wanted), rtol=0, atol=0)


@pytest.mark.parametrize("most", [4, None])
def test_torchscript(most: int | None) -> None:
    found = attribute(traced(convolutional()), cube(), 1, 2, 1, perturbations_per_eval=most)
    assert found.report.model == "TorchScript"
    assert_close(found.attributes, occlusion(convolutional(), values(), 2, 1, 0.0, 1))


@pytest.mark.parametrize("path", ["shortcut", "plain"])
def test_a_model_whose_stem_is_wide(path: str) -> None:
    """Shortcuts, where they are taken, give the plain numbers, whatever the windows touch."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(12, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    model = model.double().eval()
    image = values(8, shape=(12, 9, 8))
    model(image[None])
    hsi = HSI(image=image, wavelengths=list(range(1, 13)))
    for window, stride in [((12, 3, 3), (12, 2, 2)), ((4, 9, 8), (3, 9, 8)), ((5, 4, 3), (4, 3, 3))]:
        with mt.options(**PATHS[path]):
            found = attribute(model, hsi, 1, window, stride, 0.25).attributes
        assert_close(found, occlusion(model, image, window, stride, 0.25, 1), 1e-9)


def test_quadratic_windows_of_everything() -> None:
    """One window over all: f(x) - f(b) everywhere."""
    model, hsi = Quadratic(), cube()
    found = attribute(model, hsi, 2, SHAPE, SHAPE, 0.5).attributes
    with torch.no_grad():
        wanted = model(hsi.image[None])[0, 2] - model(torch.full_like(hsi.image, 0.5)[None])[0, 2]
    assert_close(found, wanted.expand(SHAPE), 1e-12)
