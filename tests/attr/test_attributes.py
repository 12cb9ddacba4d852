from __future__ import annotations

import copy
import pickle
import types
import warnings

import numpy as np
import pytest
import torch

from meteors_c.attr import attributes as module
from meteors_c.attr.attributes import (
    AVAILABLE_ATTRIBUTION_METHODS,
    HSIAttributes,
    HSIAttributesSpatial,
    HSIAttributesSpectral,
    align_band_names_with_mask,
)
from meteors_c.exceptions import (
    DeviceError,
    HSIAttributesError,
    MaskCreationError,
    OrientationError,
    ShapeMismatchError,
    ValidationError,
)
from meteors_c.hsi import HSI

SIZES = {"C": 5, "H": 3, "W": 4}
ORIENTATIONS = ["HWC", "WCH"]
BAND_IDS = torch.tensor([1, 1, 2, 2, 3])


def image(orientation="CHW", **kwargs):
    shape = [SIZES[letter] for letter in orientation]
    return HSI(image=torch.rand(shape), wavelengths=torch.arange(5.0) + 400, orientation=tuple(orientation), **kwargs)


def like(hsi):
    """Attributions that tell every value apart."""
    return torch.arange(60.0).reshape(hsi.image.shape)


def along_bands(hsi, values):
    axis = hsi.spectral_axis
    return values.reshape([-1 if a == axis else 1 for a in range(3)]).expand(hsi.image.shape)


def spectral(hsi, names=None, **kwargs):
    kwargs.setdefault("attributes", along_bands(hsi, BAND_IDS * 10.0))
    kwargs.setdefault("mask", along_bands(hsi, BAND_IDS))
    return HSIAttributesSpectral(hsi=hsi, band_names={"a": 1, "b": 2, "c": 3} if names is None else names, **kwargs)


class TestConstruction:
    def test_fields_are_kept(self):
        hsi = image()
        values, mask, report = like(hsi).double(), torch.ones(hsi.image.shape, dtype=torch.int16), object()
        result = HSIAttributes(
            hsi=hsi, attributes=values, attribution_method="Lime", score=1, mask=mask, report=report, target=(0, 2)
        )
        assert result.hsi is hsi
        assert result.attributes is values
        assert result.mask is mask
        assert (result.score, result.report, result.target) == (1.0, report, (0, 2))
        assert result.device == torch.device("cpu")
        assert result.orientation == ("C", "H", "W")

    def test_optional_fields_are_none(self):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi))
        fields = (result.attribution_method, result.score, result.mask, result.report, result.target)
        assert fields == (None,) * 5

    def test_arrays_share_their_memory(self):
        hsi = image()
        values, mask = like(hsi).numpy(), np.ones((5, 3, 4), dtype=np.int16)
        result = HSIAttributes(hsi=hsi, attributes=values, mask=mask)
        values[0, 0, 0] = -7
        assert result.attributes[0, 0, 0] == -7
        assert result.mask.dtype is torch.int16

    def test_arrays_of_any_layout_are_taken(self):
        hsi = image()
        values = np.arange(60, dtype=">f4").reshape(5, 3, 4)[::-1]
        values.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = HSIAttributes(hsi=hsi, attributes=values)
        assert result.attributes.tolist() == values.tolist()

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite_are_allowed(self, value):
        hsi = image()
        assert HSIAttributes(hsi=hsi, attributes=torch.full(hsi.image.shape, value)).attributes.numel() == 60

    def test_gradients_stay_connected(self):
        hsi = image()
        values = like(hsi).requires_grad_() * 2
        assert HSIAttributes(hsi=hsi, attributes=values).attributes.grad_fn is values.grad_fn

    @pytest.mark.parametrize(("field", "value"), [("attributes", 3), ("mask", [1.0]), ("standard_error", "text")])
    def test_other_types_are_refused(self, field, value):
        hsi = image()
        with pytest.raises(TypeError, match=f"(?i){field}"):
            HSIAttributes(**{"hsi": hsi, "attributes": like(hsi), field: value})

    @pytest.mark.parametrize(
        ("field", "shape"),
        [("attributes", (4, 3, 4)), ("mask", (1, 3, 4)), ("mask", (3, 4)), ("standard_error", (5, 3, 4, 1))],
    )
    def test_other_shapes_are_refused_with_both_shapes(self, field, shape):
        hsi = image()
        with pytest.raises(ShapeMismatchError) as caught:
            HSIAttributes(**{"hsi": hsi, "attributes": like(hsi), field: torch.ones(shape)})
        assert field in caught.value.message
        assert str(shape) in caught.value.message
        assert str((5, 3, 4)) in caught.value.message

    @pytest.mark.parametrize("hsi", [None, 3, torch.ones(5, 3, 4)])
    def test_what_is_no_image_is_refused(self, hsi):
        with pytest.raises(HSIAttributesError, match="hsi"):
            HSIAttributes(hsi=hsi, attributes=torch.ones(5, 3, 4))

    def test_an_image_is_required(self):
        with pytest.raises(HSIAttributesError):
            HSIAttributes(attributes=torch.ones(5, 3, 4))

    def test_keywords_only(self):
        hsi = image()
        with pytest.raises(TypeError):
            HSIAttributes(hsi, like(hsi))

    @pytest.mark.parametrize("make", [HSIAttributes, spectral])
    def test_unknown_keywords_warn_once_by_name_at_the_call(self, make):
        hsi = image()
        with pytest.warns(UserWarning, match="flavour, size") as caught:
            make(hsi=hsi, attributes=like(hsi), flavour=1, size=2)
        assert len(caught) == 1
        assert caught[0].filename == __file__

    @pytest.mark.parametrize(
        ("score", "expected"), [(1, 1.0), ("2.5", 2.5), (torch.tensor(3.0), 3.0), (np.float32(4), 4.0), (None, None)]
    )
    def test_scores(self, score, expected):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi), score=score)
        assert result.score == expected
        assert score is None or type(result.score) is float

    @pytest.mark.parametrize("score", ["good", [1], torch.ones(2), object()])
    def test_bad_scores(self, score):
        hsi = image()
        with pytest.raises(ValidationError, match="score"):
            HSIAttributes(hsi=hsi, attributes=like(hsi), score=score)


class TestMethodNames:
    def test_known_names_come_in_title_case(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in AVAILABLE_ATTRIBUTION_METHODS:
                assert {module.validate_attribution_method(one) for one in (name, name.lower(), name.upper())} == {name}

    def test_unknown_names_warn_and_are_kept(self):
        hsi = image()
        with pytest.warns(UserWarning, match="Foo Bar") as caught:
            assert HSIAttributes(hsi=hsi, attributes=like(hsi), attribution_method="foo bar").attribution_method == (
                "Foo Bar"
            )
        assert caught[0].filename == __file__

    def test_other_types_are_refused(self):
        with pytest.raises(ValidationError, match="attribution_method"):
            module.validate_attribution_method(3)


class TestDevice:
    def test_none_is_that_of_the_image(self):
        info = types.SimpleNamespace(data={"hsi": image()})
        assert module.resolve_inference_device_attributes(None, info) == torch.device("cpu")
        with pytest.raises(HSIAttributesError):
            module.resolve_inference_device_attributes(None, types.SimpleNamespace(data={}))

    @pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())
    def test_construction_moves_everything(self, device):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi), mask=like(hsi), device=device)
        devices = {tensor.device.type for tensor in (result.attributes, result.mask, hsi.image, hsi.binary_mask)}
        assert devices == {device}
        assert result.hsi is hsi
        assert result.device == torch.device(device)

    def test_to_moves_attributes_and_mask_and_gives_the_object_back(self):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi), mask=like(hsi))
        # An image can't live on "meta", which stands for a second device here: it is there already.
        meta = torch.device("meta")
        result.hsi = types.SimpleNamespace(device=meta, image=torch.empty(5, 3, 4, device=meta))
        assert result.to("meta") is result
        assert result.mask.device == result.attributes.device == result.device == meta

    def test_a_device_where_the_image_cannot_go_changes_nothing(self):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi), mask=like(hsi))
        with pytest.raises(DeviceError, match="meta"):
            result.to("meta")
        assert result.mask.device == result.attributes.device == result.device == torch.device("cpu")

    @pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
    def test_unknown_devices_leave_all_as_it_was(self, device):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi))
        with pytest.raises(DeviceError, match=device):
            result.to(device)
        assert result.device == hsi.device == hsi.image.device == result.attributes.device == torch.device("cpu")
        with pytest.raises(DeviceError, match=device):
            HSIAttributes(hsi=hsi, attributes=like(hsi), device=device)

    def test_other_types_are_refused(self):
        hsi = image()
        with pytest.raises(TypeError, match="device"):
            HSIAttributes(hsi=hsi, attributes=like(hsi), device=3)


class TestOrientation:
    @pytest.mark.parametrize(
        ("source", "target", "inplace"),
        [
            ("CHW", "HWC", False),
            ("HWC", "WCH", True),
            ("WCH", "CHW", True),
            ("CWH", "HCW", False),
            ("WHC", "WHC", True),
        ],
    )
    def test_image_attributes_and_mask_turn_together(self, source, target, inplace):
        hsi = image(source)
        values, picture, axes = like(hsi), hsi.image.clone(), [source.index(letter) for letter in target]
        result = HSIAttributes(hsi=hsi, attributes=values, mask=values + 1, standard_error=values + 2)
        turned = result.change_orientation(target, inplace=inplace)
        assert turned.orientation == turned.hsi.orientation == tuple(target)
        assert torch.equal(turned.attributes, values.permute(axes))
        assert torch.equal(turned.mask, values.permute(axes) + 1)
        assert torch.equal(turned.standard_error, values.permute(axes) + 2)
        assert torch.equal(turned.hsi.image, picture.permute(axes))
        assert turned.attributes.data_ptr() == values.data_ptr()
        assert (turned is result) is inplace
        if inplace:
            assert turned.hsi is hsi
        else:
            assert result.orientation == tuple(source)
            assert result.attributes is values

    def test_subclasses_stay_themselves(self):
        result = spectral(image())
        turned = result.change_orientation("HWC")
        assert type(turned) is HSIAttributesSpectral
        assert turned.band_names == result.band_names

    @pytest.mark.parametrize("inplace", [False, True])
    def test_a_bad_orientation_changes_nothing(self, inplace):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi))
        with pytest.raises(ValueError, match="H"):
            result.change_orientation("HWX", inplace=inplace)
        with pytest.raises(OrientationError):
            result.change_orientation("HW", inplace=inplace)
        assert hsi.orientation == ("C", "H", "W")
        assert result.attributes.shape == hsi.image.shape == (5, 3, 4)


class TestSpatial:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_map_and_mask_are_taken_at_band_0(self, orientation):
        hsi = image(orientation)
        values, axis = like(hsi), orientation.index("C")
        result = HSIAttributesSpatial(hsi=hsi, attributes=values, mask=values + 1)
        assert torch.equal(result.flattened_attributes, values.select(axis, 0))
        assert torch.equal(result.segmentation_mask, values.select(axis, 0) + 1)

    def test_no_mask(self):
        hsi = image()
        result = HSIAttributesSpatial(hsi=hsi, attributes=like(hsi))
        assert result.flattened_attributes.shape == (3, 4)
        with pytest.raises(HSIAttributesError, match="mask"):
            _ = result.segmentation_mask

    def test_the_base_class_has_no_flat_form(self):
        hsi = image()
        with pytest.raises(NotImplementedError):
            _ = HSIAttributes(hsi=hsi, attributes=like(hsi)).flattened_attributes


class TestSpectral:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_spectrum_and_mask_are_taken_at_pixel_0_0(self, orientation):
        hsi = image(orientation)
        values = like(hsi)
        result = spectral(hsi, attributes=values)
        expected = values.movedim(orientation.index("C"), 0)[:, 0, 0]
        assert torch.equal(result.flattened_attributes, expected)
        assert torch.equal(result.band_mask, BAND_IDS)

    def test_a_mask_is_required(self):
        with pytest.raises(HSIAttributesError, match="mask"):
            spectral(image(), mask=None)

    def test_a_mask_taken_away_later(self):
        result = spectral(image())
        result.mask = None
        with pytest.raises(ValueError, match="mask"):
            _ = result.band_mask

    def test_names_are_aligned(self):
        assert spectral(image(), {"a": 1, "b": 2}).band_names == {"a": 1, "b": 2, "not_included": 3}

    @pytest.mark.parametrize(("ids", "expected"), [("1", 1), (1.0, 1), (np.int32(1), 1)])
    def test_ids_become_integers(self, ids, expected):
        names = spectral(image(), {"a": ids, "b": 2, "c": 3}).band_names
        assert names["a"] == expected
        assert type(names["a"]) is int

    @pytest.mark.parametrize("names", [None, ["a"], "a", {1: 1}, {("a", 2): 1}, {"a": 1.5}, {"a": "x"}, {"a": None}])
    def test_bad_names(self, names):
        with pytest.raises(ValidationError, match="band_names"):
            HSIAttributesSpectral(
                hsi=(hsi := image()), attributes=like(hsi), mask=along_bands(hsi, BAND_IDS), band_names=names
            )


class TestAlignment:
    @pytest.mark.parametrize("mask", [torch.tensor([0, 1, 1]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])])
    def test_the_one_unnamed_id_is_named(self, mask):
        names = {("N", "R"): 1}
        assert align_band_names_with_mask(names, mask) == {("N", "R"): 1, "not_included": 0}
        assert names == {("N", "R"): 1}

    def test_complete_names_are_left(self):
        names = {"a": 1, "not_included": 0}
        aligned = align_band_names_with_mask(names, torch.tensor([0, 1]))
        assert aligned == names
        assert aligned is not names

    def test_absent_names_are_dropped_with_a_warning(self):
        names = {"a": 1, "b": 7}
        with pytest.warns(UserWarning, match="'b'"):
            assert align_band_names_with_mask(names, torch.tensor([1, 1])) == {"a": 1}
        assert names == {"a": 1, "b": 7}

    @pytest.mark.parametrize("names", [{}, {"a": 2}, {"not_included": 0}])
    def test_what_cannot_be_aligned(self, names):
        with pytest.raises(MaskCreationError):
            align_band_names_with_mask(names, torch.tensor([0, 1]))

    def test_an_id_that_no_name_can_have(self):
        with pytest.raises(MaskCreationError, match=r"0\.5"):
            align_band_names_with_mask({"a": 1}, torch.tensor([0.5, 1.0]))


class TestObject:
    def results(self):
        hsi = image("HWC")
        values = like(hsi)
        values[0, 0, 0] = float("nan")
        yield HSIAttributes(hsi=hsi, attributes=values, score=float("nan"), target=torch.tensor([1, 2]))
        yield HSIAttributesSpatial(hsi=hsi, attributes=values, mask=values, attribution_method="Lime", score=0.5)
        yield spectral(hsi, {"a": 1, ("b", "x"): 2}, target=(1, 2))

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
    def test_deep_copies_are_equal_and_apart(self, duplicate):
        for result in self.results():
            twin = duplicate(result)
            assert type(twin) is type(result)
            assert twin == result
            twin.attributes.zero_()
            assert twin != result
            assert result.attributes[-1, -1, -1] > 0

    @pytest.mark.parametrize("duplicate", [copy.copy, HSIAttributes.model_copy])
    def test_shallow_copies_share_the_tensors(self, duplicate):
        for result in self.results():
            twin = duplicate(result)
            assert twin is not result
            assert twin == result
            assert twin.attributes is result.attributes
            assert twin.hsi is result.hsi
            twin.score = 9.0
            assert result.score != 9.0

    def test_results_inside_a_graph_can_be_copied(self):
        hsi = image()
        values = like(hsi).requires_grad_() * 2
        twin = copy.deepcopy(HSIAttributes(hsi=hsi, attributes=values))
        assert torch.equal(twin.attributes, values)
        assert not twin.attributes.requires_grad

    def test_results_of_images_inside_a_graph_can_be_copied(self):
        leaf = torch.rand(5, 3, 4, requires_grad=True)
        hsi = HSI(image=2 * leaf, wavelengths=torch.arange(5.0) + 400)
        result = HSIAttributes(hsi=hsi, attributes=3 * leaf, mask=4 * leaf, standard_error=5 * leaf)
        twin = copy.deepcopy(result)
        assert twin == result
        assert twin.hsi is not hsi
        first, second = copy.deepcopy([result, result.model_copy()])
        assert first.hsi is second.hsi, "an image that two results share is copied once"
        assert twin.hsi.image.data_ptr() != hsi.image.data_ptr()
        assert not any(t.requires_grad for t in (twin.hsi.image, twin.attributes, twin.mask, twin.standard_error))
        assert result.hsi.image.grad_fn is not None

    def test_what_is_made_in_inference_mode_can_be_trained_with(self, tmp_path):
        hsi = image()
        error = np.ones((5, 3, 4), dtype=np.float32)
        with torch.inference_mode():
            made = HSIAttributes(
                hsi=hsi, attributes=torch.ones(5, 3, 4), mask=torch.ones(5, 3, 4), standard_error=error
            )
            turned, twin = made.change_orientation("HWC"), copy.deepcopy(made)
            made.save(tmp_path / "r")
            loaded = HSIAttributes.load(tmp_path / "r")
        for result in (made, turned, twin, loaded):
            tensors = (result.attributes, result.mask, result.standard_error, result.hsi.image)
            assert not any(tensor.is_inference() for tensor in tensors)
            (result.attributes * torch.ones(1, requires_grad=True)).sum().backward()
        error[0, 0, 0] = 7
        assert made.standard_error[0, 0, 0] == 7, "arrays share their memory there too"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("attributes", torch.zeros(5, 3, 4)),
            ("attributes", torch.arange(60.0, dtype=torch.float64).reshape(5, 3, 4)),
            ("mask", torch.zeros(5, 3, 4)),
            ("score", 2.0),
            ("attribution_method", "Lime"),
            ("target", 3),
            ("hsi", image()),
        ],
    )
    def test_each_field_counts_for_equality(self, field, value):
        hsi = image()
        result = HSIAttributes(hsi=hsi, attributes=like(hsi))
        other = result.model_copy()
        setattr(other, field, value)
        assert getattr(other, field) is value
        assert result != other
        assert other != result

    def test_the_report_does_not_count(self):
        hsi = image()
        values = like(hsi)
        one, two = (HSIAttributes(hsi=hsi, attributes=values, report=seconds) for seconds in (1.0, 2.0))
        assert one == two

    def test_other_classes_differ(self):
        hsi = image()
        assert HSIAttributes(hsi=hsi, attributes=like(hsi)) != HSIAttributesSpatial(hsi=hsi, attributes=like(hsi))
        assert HSIAttributes(hsi=hsi, attributes=like(hsi)) != "text"

    def test_repr_is_short_and_says_what_it_is(self):
        for result in self.results():
            text = repr(result)
            assert text.startswith(type(result).__name__ + "(")
            assert "(3, 4, 5)" in text
            assert "HWC" in text
            assert len(text) < 250


def test_small_helpers():
    hsi = image()
    tensor = torch.ones(2)
    assert module.ensure_torch_tensor(tensor, "Context") is tensor
    assert module.validate_and_convert_mask(None) is None
    assert module.validate_and_convert_attributes(np.ones(2)).dtype is torch.float64
    with pytest.raises(TypeError, match="Context"):
        module.ensure_torch_tensor([1], "Context")
    with pytest.raises(ShapeMismatchError):
        module.validate_shapes(tensor, hsi)
    module.validate_shapes(hsi.image, hsi)
