"""Calls of Lime: which arguments it takes, which it refuses and when, and what it warns of."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import HSI, attr, options
from meteors_c.attr import HSIAttributesSpatial, HSIAttributesSpectral, Lime
from meteors_c.exceptions import HSIAttributesError, MaskCreationError, ShapeMismatchError
from meteors_c.models.linear import SkLearnLinearRegression, SkLearnRidge
from tests.attr.surrogates import Exact, Recorder, whole_cube
from tests.toys import BANDS, COLUMNS, ROWS, SHAPE, Watched, cube, explainable, smooth, values

MODEL = smooth()
PIXELS = torch.arange(ROWS)[:, None].expand(ROWS, COLUMNS)
BANDS_BY_TWO = torch.tensor([0, 0, 1, 1, 2])


def spatial(hsi: Any = None, mask: Any = PIXELS, **arguments: Any) -> Any:
    hsi = cube() if hsi is None else hsi
    return Lime(explainable(MODEL)).get_spatial_attributes(hsi, mask, **{"target": 0, **arguments})


def spectral(hsi: Any = None, mask: Any = BANDS_BY_TWO, **arguments: Any) -> Any:
    hsi = cube() if hsi is None else hsi
    return Lime(explainable(MODEL)).get_spectral_attributes(hsi, mask, **{"target": 0, **arguments})


def refused_unasked(call: Any, error: type[Exception], words: str) -> None:
    """An error, before the model was asked anything."""
    model = Watched(MODEL)
    explainer = Lime(explainable(model), SkLearnRidge(alpha=1.0))
    with pytest.raises(error, match=words):
        call(explainer)
    assert model.sizes == []
    assert explainer.interpretable_model.bias() is None, "no fit was made"


# ---------------------------------------------------------------- attribute


def test_attribute_goes_to_the_two_calls() -> None:
    explainer = Lime(explainable(Exact()))
    calls = {
        "spatial": (explainer.get_spatial_attributes, {"segmentation_mask": PIXELS}, HSIAttributesSpatial),
        "spectral": (explainer.get_spectral_attributes, {"band_mask": BANDS_BY_TWO}, HSIAttributesSpectral),
    }
    for kind, (call, mask, result_type) in calls.items():
        torch.manual_seed(3)
        wanted = call(whole_cube(), target=1, n_samples=30, **mask)
        torch.manual_seed(3)
        found = explainer.attribute(whole_cube(), target=1, attribution_type=kind, n_samples=30, **mask)
        assert found == wanted
        assert type(found) is result_type


@pytest.mark.parametrize("kind", [None, "joint", "Spatial", 3])
def test_other_types_are_refused(kind: Any) -> None:
    refused_unasked(lambda lime: lime.attribute(cube(), 0, kind), ValueError, "attribution_type")


@pytest.mark.parametrize("name", ["attribute", "get_spatial_attributes", "get_spectral_attributes"])
def test_without_a_method_nothing_else_is_looked_at(name: str) -> None:
    explainer = Lime(explainable(MODEL))
    explainer._attribution_method = None
    with pytest.raises(RuntimeError):
        getattr(explainer, name)("no image", attribution_type="neither") if name == "attribute" else getattr(
            explainer, name
        )("no image")


def test_it_is_a_known_method() -> None:
    assert Lime.get_name() == "Lime"
    assert "Lime" in attr.attributes.AVAILABLE_ATTRIBUTION_METHODS
    assert not Lime(explainable(MODEL)).has_convergence_delta()


def test_order_of_the_arguments() -> None:
    """As in meteors, by place."""
    torch.manual_seed(1)
    explainer = Lime(explainable(MODEL))
    result = explainer.get_spatial_attributes(cube(), PIXELS, 1, 12, 5, False, "slic", None)
    assert (result.target, result.effects.samples, result.report.chunk_first) == (1, 12, 5)
    names = {"a": 0, "b": 1, "c": 2}
    result = explainer.get_spectral_attributes(cube(), BANDS_BY_TWO, 1, 12, 5, False, None, names)
    assert (result.target, result.effects.samples, result.band_names) == (1, 12, names)


@pytest.mark.parametrize("hsi", [None, "scene.tif", torch.zeros(SHAPE), [], [cube(), 3], (cube(),)], ids=str)
def test_no_images(hsi: Any) -> None:
    for mask, name in ((PIXELS, "get_spatial_attributes"), (BANDS_BY_TWO, "get_spectral_attributes")):
        refused_unasked(lambda lime, n=name, m=mask: getattr(lime, n)(hsi, m, 0), (TypeError, ValueError), "hsi")


def test_images_of_several_shapes() -> None:
    small = HSI(image=values(shape=(BANDS, 2, 2)), wavelengths=cube().wavelengths)
    refused_unasked(lambda lime: lime.get_spatial_attributes([cube(), small], PIXELS, 0), ShapeMismatchError, "image")


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (torch.zeros(ROWS, COLUMNS + 1), ValueError, "broadcast"),
        (torch.zeros(BANDS, 1, COLUMNS), ValueError, "orientation mismatch"),
        (torch.zeros(BANDS + 1, ROWS, COLUMNS), ValueError, "broadcast"),
        (torch.zeros(7), ValueError, "3D"),
        (torch.zeros(1, 1, ROWS, COLUMNS), ValueError, "3D"),
        (torch.full((ROWS, COLUMNS), 0.5), ValueError, "whole"),
        (torch.full((ROWS, COLUMNS), float("nan")), ValueError, "whole"),
        (torch.full((ROWS, COLUMNS), float("inf")), ValueError, "whole"),
        (torch.full((ROWS, COLUMNS), -1), ValueError, "negative"),
        (torch.zeros(ROWS, COLUMNS, dtype=torch.complex64), ValueError, "whole"),
        (torch.zeros(ROWS, COLUMNS).to_sparse(), ValueError, "dense"),
        (np.full((ROWS, COLUMNS), "a"), TypeError, "segmentation"),
        ("slic", TypeError, "segmentation_mask"),
        ([[0] * COLUMNS] * ROWS, ValueError, "segmentation_mask"),
        ([[0]], TypeError, "segmentation_mask"),
        ([PIXELS, PIXELS], ValueError, "segmentation_mask"),
        ([], ValueError, "segmentation_mask"),
    ],
)
def test_bad_segmentation_masks(mask: Any, error: type[Exception], words: str) -> None:
    refused_unasked(lambda lime: lime.get_spatial_attributes(cube(), mask, 0), error, words)


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        (torch.zeros(BANDS + 1), ValueError, "broadcast"),
        (torch.zeros(1, ROWS, COLUMNS), ValueError, "orientation mismatch"),
        (torch.zeros(BANDS, 1), ValueError, "3D"),
        (torch.full((BANDS,), 0.5), ValueError, "whole"),
        (torch.full((BANDS,), -2), ValueError, "negative"),
        ({"R": 1}, TypeError, "band_mask"),
        ([BANDS_BY_TWO, BANDS_BY_TWO], ValueError, "band_mask"),
        ([0, 0, 1, 1, 2], ValueError, "band_mask"),
    ],
)
def test_bad_band_masks(mask: Any, error: type[Exception], words: str) -> None:
    refused_unasked(lambda lime: lime.get_spectral_attributes(cube(), mask, 0), error, words)


def test_a_mask_that_would_grow_the_image() -> None:
    hsi = HSI(image=values(shape=(1, 6, 6)), wavelengths=[500.0])
    model = explainable(lambda x: x.sum((1, 2, 3)))
    for mask in (torch.zeros(3, 6, 1), torch.zeros(3, 6, 6)):
        with pytest.raises(ShapeMismatchError):
            Lime(model).get_spatial_attributes(hsi, mask)


def test_a_segmentation_mask_serves_all_images_and_a_list_each() -> None:
    images, others = [cube(0), cube(1)], PIXELS.flip(0) * 3
    for result in spatial(images):
        assert torch.equal(result.segmentation_mask, PIXELS)
    found = spatial(images, [PIXELS, others.numpy()])
    assert torch.equal(found[1].segmentation_mask, others)
    assert isinstance(spatial([images[0]]), HSIAttributesSpatial), "one image gives one result"
    assert torch.equal(spatial(images, (PIXELS, others))[1].segmentation_mask, others)
    refused_unasked(lambda lime: lime.get_spatial_attributes(images, [PIXELS], 0), ValueError, "2 images")


def test_one_mask_does_not_serve_turned_images() -> None:
    """Rows of one are columns of the other, even where both fit."""
    image = values(shape=(BANDS, 3, 3))
    straight, mask = HSI(image=image, wavelengths=cube().wavelengths), torch.arange(3)[:, None].expand(3, 3)
    turned = straight.change_orientation("CWH")
    refused_unasked(lambda lime: lime.get_spatial_attributes([straight, turned], mask, 0), ValueError, "orientation")
    explainer = Lime(explainable(lambda x: x.sum((1, 2, 3))), SkLearnLinearRegression())
    first, second = explainer.get_spatial_attributes([straight, turned], [mask, mask.T], n_samples=50)
    torch.testing.assert_close(second.attributes.permute(0, 2, 1), first.attributes)


def test_arrays_that_can_not_be_written_to_are_masks() -> None:
    mask = PIXELS.numpy().copy()
    mask.flags.writeable = False
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*[Ww]rit.*")
        assert torch.equal(spatial(mask=mask).segmentation_mask, PIXELS)


def test_a_band_mask_serves_all_images_also_in_a_list() -> None:
    images, others = [cube(0), cube(1)], BANDS_BY_TWO.flip(0)
    for mask in (BANDS_BY_TWO, [BANDS_BY_TWO], (BANDS_BY_TWO,), BANDS_BY_TWO[:, None, None].expand(SHAPE)):
        for result in spectral(images, mask):
            assert torch.equal(result.band_mask, BANDS_BY_TWO)
    assert torch.equal(spectral(images, [BANDS_BY_TWO, others])[1].band_mask, others)
    refused_unasked(lambda lime: lime.get_spectral_attributes(images, [others] * 3, 0), ValueError, "2 images")


@pytest.mark.parametrize("images", [1, 2])
def test_without_a_mask_the_first_image_makes_one(images: int) -> None:
    many = [cube(i) for i in range(images)]
    with pytest.warns(UserWarning, match="first image"):
        found = spatial(many, None, num_interpret_features=4, compactness=0.1)
    wanted = Lime.get_segmentation_mask(cube(0), num_interpret_features=4, compactness=0.1)
    for result in found if images > 1 else [found]:
        assert torch.equal(result.mask, wanted.expand(SHAPE))
    with pytest.warns(UserWarning, match="first image"):
        patches = spatial(None, None, segmentation_method="patch", patch_size=1)
    assert len(patches.effects.ids) == ROWS * COLUMNS


def test_masks_that_can_not_be_made() -> None:
    with pytest.warns(UserWarning, match="first image"):
        refused_unasked(
            lambda lime: lime.get_spatial_attributes(cube(), None, 0, segmentation_method="watershed"),
            MaskCreationError,
            "watershed",
        )
    refused_unasked(lambda lime: lime.get_spectral_attributes(cube(), None, 0), MaskCreationError, "band_names")
    refused_unasked(
        lambda lime: lime.get_spectral_attributes(cube(), None, 0, band_names=["nowhere"]), MaskCreationError, "nowhere"
    )


def test_parameters_beside_a_mask_are_not_lost_silently() -> None:
    with pytest.warns(UserWarning, match="compactnes"):
        spatial(compactnes=3)


# ---------------------------------------------------------------- names of superbands


def test_masks_from_names() -> None:
    result = spectral(mask=None, band_names=["G", "R"], n_samples=30)
    mask, names = Lime.get_band_mask(cube(), ["G", "R"])
    assert torch.equal(result.mask, mask.expand(SHAPE))
    assert {name: result.band_names[name] for name in names} == names
    assert result.band_names == {**names, "not_included": 0}


def test_names_of_ids() -> None:
    assert spectral(band_names={"blue": 0, ("green", "red"): 1, "far": 2}).band_names == {
        "blue": 0,
        ("green", "red"): 1,
        "far": 2,
    }
    assert spectral(band_names={"blue": 0, "far": 2}).band_names == {"blue": 0, "far": 2, "not_included": 1}
    with pytest.warns(UserWarning, match="nowhere"):
        result = spectral(band_names={"a": 0, "b": 1, "c": 2, "nowhere": 9})
    assert result.band_names == {"a": 0, "b": 1, "c": 2}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spectral([cube(), cube(1)], band_names={"a": 0, "b": 1, "c": 2, "nowhere": 9}, n_samples=100)
    absent = [one for one in caught if "nowhere" in str(one.message)]
    assert 1 <= len(absent) <= 2, "once for each image, not again for each result"
    assert spectral(mask=BANDS_BY_TWO - 1).band_names == {"-1": -1, "0": 0, "1": 1}


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ({"a": 0}, HSIAttributesError, "no name"),
        ({"a": 0, "b": 1, "c": -1}, ValueError, "negative"),
        ({"a": 0.5, "b": 1, "c": 2}, ValueError, "integers"),
        ({1: 0, "b": 1, "c": 2}, ValueError, "strings"),
        (["R", "G"], TypeError, "dict"),
        ("R", TypeError, "dict"),
    ],
)
def test_bad_names_are_refused_before_the_run(names: Any, error: type[Exception], words: str) -> None:
    refused_unasked(lambda lime: lime.get_spectral_attributes(cube(), BANDS_BY_TWO, 0, band_names=names), error, words)


def test_a_negative_id_in_names_would_vanish() -> None:
    refused_unasked(
        lambda lime: lime.get_spectral_attributes(cube(), None, 0, band_names={"R": -1, "G": 2}), ValueError, "negative"
    )


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_samples": 0}, ValueError, "n_samples"),
        ({"n_samples": -5}, ValueError, "n_samples"),
        ({"n_samples": 10.0}, TypeError, "n_samples"),
        ({"n_samples": None}, TypeError, "n_samples"),
        ({"n_samples": "many"}, ValueError, "auto"),
        ({"n_samples": 2**70}, ValueError, "n_samples"),
        ({"n_samples": 2**61}, MemoryError, "samples"),
        ({"n_samples": 10**12}, MemoryError, "samples of 4 features"),
        ({"tolerance": 0.1}, ValueError, "auto"),
        ({"n_samples": "auto", "tolerance": 0.0}, ValueError, "tolerance"),
        ({"n_samples": "auto", "tolerance": 1.0}, ValueError, "tolerance"),
        ({"n_samples": "auto", "tolerance": float("nan")}, ValueError, "tolerance"),
        ({"n_samples": "auto", "tolerance": "5 %"}, ValueError, "tolerance"),
        ({"standard_errors": 1}, ValueError, "standard_errors"),
        ({"standard_errors": -2}, ValueError, "standard_errors"),
        ({"standard_errors": "yes"}, TypeError, "standard_errors"),
        ({"perturbations_per_eval": 0}, ValueError, "perturbations_per_eval"),
        ({"target": "every"}, ValueError, "target"),
        ({"target": 1.5}, TypeError, "target"),
        ({"target": [0, 1]}, ValueError, "target"),
        ({"target": 0, "per_target": True}, TypeError, "per_target"),
        ({"target": [], "per_target": True}, TypeError, "per_target"),
        ({"baseline": torch.zeros(2)}, ShapeMismatchError, "baseline"),
        ({"baseline": "median"}, TypeError, "baseline"),
        ({"baseline": float("nan")}, ValueError, "baseline"),
        ({"continue_from": "earlier"}, TypeError, "continue_from"),
        ({"continue_from": []}, ValueError, "continue_from"),
        ({"continue_from": [None, None]}, ValueError, "continue_from|earlier"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_the_run(arguments: Any, error: type[Exception], words: str) -> None:
    error = (error, TypeError) if "continue_from" in arguments else error
    refused_unasked(
        lambda lime: lime.get_spatial_attributes(cube(), PIXELS, **{"target": 0, **arguments}), error, words
    )


@pytest.mark.parametrize("n_samples", [np.int64(12), torch.tensor(12), 12])
def test_numbers_of_samples(n_samples: Any) -> None:
    assert spatial(n_samples=n_samples).effects.samples == 12


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        (3, IndexError, r"3.*outputs"),
        (-4, IndexError, r"-4.*outputs"),
        (None, ValueError, r"\(n, 3\)"),
        ((0, 0), ValueError, r"\(n, 3\)"),
    ],
)
def test_targets_that_the_outputs_lack(target: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        spatial(target=target)
    if target in (3, -4):
        with pytest.raises(error, match=words):
            spatial(target=[0, target], per_target=True)


def test_own_models_have_no_standard_errors() -> None:
    explainer = Lime(explainable(MODEL), Recorder())
    for arguments in ({"standard_errors": True}, {"n_samples": "auto"}):
        with pytest.raises(ValueError, match="interpretable model"):
            explainer.get_spatial_attributes(cube(), PIXELS, target=0, **arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("surrogate", [SkLearnLinearRegression, Recorder])
def test_outputs_that_are_not_finite(surrogate: Any, value: float) -> None:
    """There is no fit to them; what was fitted before stays."""
    bad = False
    explainer = Lime(explainable(lambda x: torch.where(x == 0, value, x) if bad else x), surrogate())
    one_value = {"target": (0, 0, 0), "n_samples": 40}
    explainer.get_spatial_attributes(cube(), PIXELS, **one_value)
    before = explainer.interpretable_model.get_representation().clone()
    bad = True
    with pytest.raises(ValueError, match="finite"):
        explainer.get_spatial_attributes(cube(), PIXELS, **one_value)
    assert torch.equal(explainer.interpretable_model.get_representation(), before)
    with pytest.raises(FloatingPointError), options(finite="raise"):
        explainer.get_spatial_attributes(cube(), PIXELS, **one_value)


def test_an_image_that_is_not_finite() -> None:
    hsi = cube()
    hsi.image[1, 2, 0] = float("nan")
    refused_unasked(lambda lime: lime.get_spatial_attributes(hsi, PIXELS, 0), ValueError, "band 1, row 2, column 0")


# ---------------------------------------------------------------- progress


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    result = spatial(
        [cube(), cube(1)], n_samples=40, verbose=lambda *counts: told.append(counts), perturbations_per_eval=3
    )
    done = [done for done, _ in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][1] >= result[0].report.evaluations
    spatial(verbose=False)
    assert capsys.readouterr().err == ""
    spatial(verbose=True)
    assert "Lime" in capsys.readouterr().err


def test_errors_in_the_model_come_through_and_leave_things_usable() -> None:
    calls, works = 0, False

    def model(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls >= 3 and not works:  # more than once: the third call may be one that only tries a shortcut
            raise RuntimeError("out of order")
        return x.sum((1, 2, 3))

    explainer = Lime(explainable(model))
    with pytest.raises(RuntimeError, match="out of order"):
        explainer.get_spatial_attributes(cube(), PIXELS, n_samples=60, perturbations_per_eval=2)
    works = True
    assert explainer.get_spatial_attributes(cube(), PIXELS, n_samples=60).attributes.isfinite().all()
