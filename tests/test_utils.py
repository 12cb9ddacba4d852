from __future__ import annotations

import doctest
import warnings

import numpy as np
import pytest
import torch

from meteors_c import utils
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.hsi import HSI
from meteors_c.utils import (
    adjust_shape,
    agg_segmentation_postprocessing,
    aggregate_by_mask,
    change_dtype_of_list,
    expand_spectral_mask,
    tensor_from_array,
    torch_dtype_to_python_dtype,
)

SIZES = {"C": 5, "H": 3, "W": 4}
ORIENTATIONS = ["CHW", "CWH", "HCW", "WCH", "HWC", "WHC"]


def image(orientation: str) -> HSI:
    shape = [SIZES[letter] for letter in orientation]
    return HSI(image=torch.rand(shape), wavelengths=torch.arange(1.0, 6.0), orientation=tuple(orientation))


class TestDtypes:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex128])
    def test_floating_point(self, dtype):
        assert torch_dtype_to_python_dtype(dtype) is float

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
    def test_integers(self, dtype):
        assert torch_dtype_to_python_dtype(dtype) is int

    def test_bool(self):
        assert torch_dtype_to_python_dtype(torch.bool) is bool

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.quint8, "float32", float, None])
    def test_the_rest_is_refused_by_name(self, dtype):
        with pytest.raises(TypeError, match=str(dtype).replace(".", r"\.")):
            torch_dtype_to_python_dtype(dtype)

    @pytest.mark.parametrize(
        ("values", "dtype", "expected"),
        [
            ([1, 2.5, "3"], float, [1.0, 2.5, 3.0]),
            ((1, 2), str, ["1", "2"]),
            (np.array([1, 2]), float, [1.0, 2.0]),
            (torch.tensor([1, 2]), float, [1.0, 2.0]),
            (torch.tensor(3), float, [3.0]),
            (np.array(3), float, [3.0]),
            (7, float, [7.0]),
            ("3.5", float, [3.5]),
            ("abc", str, ["abc"]),
            ([], int, []),
        ],
    )
    def test_lists(self, values, dtype, expected):
        result = change_dtype_of_list(values, dtype)
        assert result == expected
        assert [type(v) for v in result] == [dtype] * len(expected)


class TestTensorFromArray:
    def test_shares_memory(self):
        array = np.zeros(3)
        tensor_from_array(array)[0] = 1.0
        assert array[0] == 1.0

    @pytest.mark.parametrize(
        "array",
        [np.arange(6.0).reshape(2, 3)[::-1], np.arange(3, dtype=">f4"), np.broadcast_to(np.int16(3), (2, 2))],
        ids=["backward", "big-endian", "read-only"],
    )
    def test_what_torch_cannot_address_is_copied(self, array):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert tensor_from_array(array).tolist() == array.tolist()

    def test_text_is_refused(self):
        with pytest.raises(TypeError):
            tensor_from_array(np.array(["a"]))


class TestExpandSpectralMask:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_1d_lies_along_the_bands(self, orientation):
        mask, axis = torch.arange(5), orientation.index("C")
        hsi = image(orientation)
        assert expand_spectral_mask(hsi, mask, False).shape == tuple(5 if a == axis else 1 for a in range(3))
        full = expand_spectral_mask(hsi, mask, True)
        assert full.shape == hsi.image.shape
        assert torch.equal(full.movedim(axis, 0), mask[:, None, None].expand(5, *full.movedim(axis, 0).shape[1:]))

    @pytest.mark.parametrize(
        ("orientation", "shape", "expected"),
        [
            ("CHW", (5, 1), (5, 1, 1)),
            ("HCW", (1, 5), (1, 5, 1)),
            ("HWC", (1, 5), (1, 1, 5)),
            ("HWC", (4, 5), (1, 4, 5)),
        ],
    )
    def test_2d_gets_one_axis(self, orientation, shape, expected):
        assert expand_spectral_mask(image(orientation), torch.ones(shape), False).shape == expected

    def test_3d_is_left_alone(self):
        mask = torch.ones(5, 1, 1)
        assert expand_spectral_mask(image("CHW"), mask, False) is mask

    @pytest.mark.parametrize("shape", [(3,), (1, 5), (2, 3, 4), (), (1, 1, 1, 1)])
    def test_what_does_not_fit_is_refused_with_its_shape(self, shape):
        with pytest.raises(ShapeMismatchError, match=str(shape[-1]) if shape else r"\(\)") as caught:
            expand_spectral_mask(image("CHW"), torch.ones(shape), True)
        assert isinstance(caught.value, RuntimeError), "what torch raises for a shape that does not fit"


class TestAdjustShape:
    @pytest.mark.parametrize(
        ("target", "source"),
        [
            ((2, 3, 4), (3, 4)),
            ((2, 3, 4), (4,)),
            ((2, 3, 4), (1, 3, 1)),
            ((3, 4), (1, 1, 3, 4)),
            ((3, 4), (3, 4, 1)),
            ((3, 1, 4), (1, 3, 1, 4)),
            ((2, 3), ()),
        ],
    )
    def test_source_takes_the_shape_of_target(self, target, source):
        t, s = torch.rand(target), torch.rand(source)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            adjusted_target, adjusted_source = adjust_shape(t, s)
        assert adjusted_target is t
        assert adjusted_source.shape == target
        assert set(adjusted_source.flatten().tolist()) == set(s.flatten().tolist())

    @pytest.mark.parametrize(("target", "source"), [((3, 4), (2, 3, 4)), ((1, 4), (3, 4)), ((1,), (2, 3))])
    def test_target_gives_way_with_a_warning(self, target, source):
        with pytest.warns(UserWarning, match="broadcast"):
            adjusted = adjust_shape(torch.rand(target), torch.rand(source))
        assert adjusted[0].shape == adjusted[1].shape == source

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_neither_fits(self):
        with pytest.raises(RuntimeError, match=r"\(2, 3, 4\).*\(5, 4\)"):
            adjust_shape(torch.rand(2, 3, 4), torch.rand(5, 4))


class TestAggregateByMask:
    def test_each_segment_gets_its_mean(self):
        data = torch.arange(12.0).reshape(3, 4)
        mask = torch.tensor([[7, 7, -1, -1]] * 3)
        expected = torch.tensor([[4.5, 4.5, 6.5, 6.5]] * 3)
        assert torch.equal(aggregate_by_mask(data, mask, torch.mean), expected)
        assert torch.equal(data, torch.arange(12.0).reshape(3, 4))

    def test_against_a_loop_over_ids(self):
        generator = torch.Generator().manual_seed(0)
        data = torch.rand(4, 5, 6, generator=generator, dtype=torch.float64)
        mask = torch.randint(-3, 9, (4, 5, 6), generator=generator)
        expected = torch.empty_like(data)
        for label in mask.unique():
            expected[mask == label] = data[mask == label].median()
        assert torch.equal(aggregate_by_mask(data, mask, torch.median), expected)

    def test_segments_may_be_named_by_floats(self):
        mask = torch.tensor([0.5, 1.5, 0.5])
        assert aggregate_by_mask(torch.tensor([1.0, 5.0, 3.0]), mask, torch.mean).tolist() == [2.0, 5.0, 2.0]

    def test_dtype_is_that_of_the_data(self):
        assert aggregate_by_mask(torch.tensor([1, 2, 3]), torch.zeros(3), torch.sum).dtype is torch.int64

    def test_elementwise_functions_keep_the_order(self):
        data, mask = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 0, 1, 0])
        assert aggregate_by_mask(data, mask, lambda x: 10 * x).tolist() == [10.0, 20.0, 30.0, 40.0]

    def test_gradients_flow(self):
        data = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
        aggregate_by_mask(data, torch.tensor([0, 0, 1]), torch.mean)[0].backward()
        assert data.grad.tolist() == [0.5, 0.5, 0.0]

    def test_shapes_must_match(self):
        with pytest.raises(ShapeMismatchError, match=r"\(3, 4\).*\(3, 1\)"):
            aggregate_by_mask(torch.rand(3, 4), torch.zeros(3, 1), torch.mean)


class TestSegmentationPostprocessing:
    labels = torch.tensor([[[0, 1], [2, 2]], [[1, 1], [1, 1]]])
    counts = ((1, 1, 2), (0, 4, 0))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float16, torch.float64])
    def test_labels_are_counted_in_their_dtype(self, dtype):
        counted = agg_segmentation_postprocessing(False, 3)(self.labels.to(dtype))
        assert counted.dtype is dtype
        assert counted.tolist() == [list(row) for row in self.counts]

    def test_extra_axes_and_the_class_axis_make_no_difference(self):
        counted = agg_segmentation_postprocessing(False, 3, class_axis=7)(self.labels[:, None])
        assert counted.tolist() == [list(row) for row in self.counts]

    def test_counts_beyond_a_small_dtype_are_right(self):
        counted = agg_segmentation_postprocessing(False, 2)(torch.zeros(1, 20, 20, dtype=torch.uint8))
        assert counted.tolist() == [[400, 0]]

    @pytest.mark.parametrize("label", [3, -1, 0.5, float("nan")])
    def test_a_label_outside_the_classes_is_refused(self, label):
        wrong = self.labels.double()
        wrong[1, 0, 0] = label
        with pytest.raises(ValueError, match="classes_numb=3"):
            agg_segmentation_postprocessing(False, 3)(wrong)

    def test_counts_stay_connected_with_finite_gradients(self):
        labels = torch.full((1, 300, 300), 2.0, dtype=torch.float16, requires_grad=True)
        counted = agg_segmentation_postprocessing(False, 3)(labels)
        (gradient,) = torch.autograd.grad(counted[:, 0].sum(), labels)
        assert torch.isfinite(gradient).all()

    @pytest.mark.parametrize("class_axis", [1, 2, 3, -1, -2])
    def test_scores_are_summed_where_they_win(self, class_axis):
        generator = torch.Generator().manual_seed(0)
        scores = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
        winner = scores.argmax(1)
        expected = torch.stack([(scores[:, c] * (winner == c)).sum((1, 2)) for c in range(3)], dim=1)
        moved = scores.movedim(1, class_axis)
        torch.testing.assert_close(agg_segmentation_postprocessing(True, 3, class_axis)(moved), expected)

    @pytest.mark.parametrize(
        ("dtype", "wanted"),
        [
            (torch.uint8, torch.int64),
            (torch.bool, torch.int64),
            (torch.float16, torch.float32),
            (torch.bfloat16, torch.float32),
            (torch.uint16, torch.uint16),
            (torch.float32, torch.float32),
        ],
    )
    def test_counts_that_the_dtype_cannot_hold_are_exact(self, dtype, wanted):
        labels = torch.zeros(1, 50, 50, dtype=dtype)
        labels[0, 0, 0] = 1
        counted = agg_segmentation_postprocessing(classes_numb=2)(labels)
        assert counted.dtype is wanted
        assert counted.tolist() == [[2499, 1]]

    def test_the_width_is_the_number_of_classes(self):
        assert agg_segmentation_postprocessing(classes_numb=3)(torch.tensor([[[0, 1], [1, 1]]])).tolist() == [[1, 3, 0]]

    def test_scores_by_hand(self):
        scores = torch.tensor([[[[0.6, 0.4]], [[0.3, 0.7]]]], dtype=torch.float64)
        assert agg_segmentation_postprocessing(True)(scores).tolist() == [[0.6, 0.7]]

    def test_of_equal_scores_the_first_class_wins(self):
        assert agg_segmentation_postprocessing(True)(torch.full((1, 3, 1, 2), 0.5)).tolist() == [[1.0, 0.0, 0.0]]

    def test_scores_have_useful_gradients(self):
        scores = torch.tensor([[[[1.0, 5.0]], [[2.0, 3.0]]]], requires_grad=True)
        agg_segmentation_postprocessing(True)(scores).sum().backward()
        assert scores.grad.tolist() == [[[[0.0, 1.0]], [[1.0, 0.0]]]]

    def test_an_infinite_loser_does_not_spoil_the_sum(self):
        scores = torch.tensor([[[[-float("inf")]], [[2.0]]]])
        assert agg_segmentation_postprocessing(True)(scores).tolist() == [[0.0, 2.0]]

    @pytest.mark.parametrize("soft", [True, False])
    def test_outputs_without_pixels_are_refused(self, soft):
        with pytest.raises(ValueError, match=r"\(3,\)"):
            agg_segmentation_postprocessing(soft, 3)(torch.zeros(3))


class TestIgnoredLabels:
    labels = torch.tensor([[[0, 1], [255, 2]], [[255, 255], [7, 2]]])

    @pytest.mark.parametrize(
        "ignore", [[255, 7], (255, 7), {255, 7}, torch.tensor([255, 7]), np.array([255, 7]), (i for i in (255, 7))]
    )
    def test_they_count_for_no_class(self, ignore):
        after = agg_segmentation_postprocessing(classes_numb=3, ignore_index=ignore)
        for _ in range(2):
            assert after(self.labels).tolist() == [[1, 1, 1], [0, 0, 1]]

    @pytest.mark.parametrize("ignore", [255, np.int64(255), torch.tensor(255), [255]])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
    def test_one_label(self, ignore, dtype):
        counted = agg_segmentation_postprocessing(classes_numb=3, ignore_index=ignore)(self.labels[:1].to(dtype))
        assert counted.dtype is dtype
        assert counted.tolist() == [[1, 1, 1]]

    def test_a_class_may_be_ignored_and_keeps_its_column(self):
        after = agg_segmentation_postprocessing(classes_numb=3, ignore_index=[0, -1])
        assert after(torch.tensor([[[0, 0], [-1, 2]]])).tolist() == [[0, 0, 1]]

    def test_all_pixels_ignored(self):
        after = agg_segmentation_postprocessing(classes_numb=2, ignore_index=255)
        assert after(torch.full((2, 3, 3), 255)).tolist() == [[0, 0], [0, 0]]

    def test_other_labels_are_still_refused(self):
        with pytest.raises(ValueError, match="7 came"):
            agg_segmentation_postprocessing(classes_numb=3, ignore_index=255)(self.labels)
        with pytest.raises(ValueError, match=r"254\.5 came"):
            agg_segmentation_postprocessing(classes_numb=3, ignore_index=[254, 255])(torch.full((1, 1, 1), 254.5))
        with pytest.raises(ValueError, match="nan came"):
            agg_segmentation_postprocessing(classes_numb=3, ignore_index=-(2**63))(torch.full((1, 1, 1), float("nan")))


class TestRegion:
    region = torch.tensor([[True, False, True], [False, False, True]])

    @pytest.mark.parametrize("form", [torch.Tensor.clone, torch.Tensor.numpy, lambda region: region.T.contiguous().T])
    @pytest.mark.parametrize("extra", [(), (1,), (2,)])
    def test_labels_count_inside_it(self, form, extra):
        labels = torch.tensor([[0, 2, 2], [2, 2, 1]]).expand(2, *extra, 2, 3)
        after = agg_segmentation_postprocessing(classes_numb=3, region=form(self.region))
        times = extra[0] if extra else 1
        assert after(labels).tolist() == [[times, times, times]] * 2

    @pytest.mark.parametrize("class_axis", [1, 2, 3, -1])
    def test_scores_count_inside_it(self, class_axis):
        generator = torch.Generator().manual_seed(0)
        scores = torch.rand(2, 4, 2, 3, generator=generator, dtype=torch.float64)
        inside = scores[..., self.region]
        winner = torch.nn.functional.one_hot(inside.argmax(1), 4).movedim(2, 1)
        after = agg_segmentation_postprocessing(True, class_axis=class_axis, region=self.region)
        torch.testing.assert_close(after(scores.movedim(1, class_axis)), (inside * winner).sum(2))

    @pytest.mark.parametrize("wrong", [9.0, 0.5, float("nan"), float("inf")])
    def test_what_lies_outside_does_not_matter(self, wrong):
        labels = torch.where(self.region, 1.0, wrong)[None].requires_grad_()
        counted = agg_segmentation_postprocessing(classes_numb=2, region=self.region)(labels)
        assert counted.tolist() == [[0.0, 3.0]]
        assert torch.autograd.grad(counted.sum(), labels)[0].count_nonzero() == 0
        scores = torch.where(self.region, torch.tensor([1.0, 2.0])[:, None, None], wrong)[None].requires_grad_()
        summed = agg_segmentation_postprocessing(True, region=self.region)(scores)
        assert summed.tolist() == [[0.0, 6.0]]
        (gradient,) = torch.autograd.grad(summed.sum(), scores)
        assert torch.equal(gradient[0, 1], self.region.float())
        assert not gradient[0, 0].any()

    def test_labels_inside_it_are_checked_and_ignored(self):
        labels = torch.tensor([[[0, 9, 255], [9, 9, 1]]])
        with pytest.raises(ValueError, match="255 came"):
            agg_segmentation_postprocessing(classes_numb=3, region=self.region)(labels)
        after = agg_segmentation_postprocessing(classes_numb=3, region=self.region, ignore_index=255)
        assert after(labels).tolist() == [[1, 1, 0]]

    def test_later_changes_of_the_caller_s_region_make_no_difference(self):
        for region in (self.region.clone(), self.region.numpy().copy()):
            after = agg_segmentation_postprocessing(classes_numb=1, region=region)
            region[:] = True
            assert after(torch.zeros(1, 2, 3)).tolist() == [[3.0]]

    def test_it_follows_the_output_to_its_device(self):
        after = agg_segmentation_postprocessing(True, region=self.region)
        assert after(torch.empty(2, 4, 2, 3, device="meta")).device == torch.device("meta")

    @pytest.mark.parametrize("soft", [True, False])
    @pytest.mark.parametrize("shape", [(2, 3, 2), (2, 3, 4, 3), (2, 3)])
    def test_pixels_of_another_shape(self, soft, shape):
        with pytest.raises(ShapeMismatchError, match=r"region.*\(2, 3\)"):
            agg_segmentation_postprocessing(soft, 3, region=self.region)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"soft_labels": 3}, TypeError, "soft_labels.*3"),
        ({"classes_numb": 2.0}, TypeError, r"classes_numb.*2\.0"),
        ({"classes_numb": True}, TypeError, "classes_numb.*True"),
        ({"classes_numb": None}, TypeError, "classes_numb.*None"),
        ({"classes_numb": -1}, ValueError, "classes_numb.*-1"),
        ({"ignore_index": 1.5}, TypeError, r"ignore_index.*1\.5"),
        ({"ignore_index": [0, "void"]}, TypeError, "ignore_index.*void"),
        ({"ignore_index": "255"}, TypeError, "ignore_index"),
        ({"ignore_index": 255, "soft_labels": True}, ValueError, "ignore_index.*soft_labels"),
        ({"region": torch.zeros(2, 3, dtype=torch.bool)}, ValueError, "region.*at least one"),
        ({"region": torch.zeros(0, 3, dtype=torch.bool)}, ValueError, "region.*at least one"),
        ({"region": torch.ones(1, 2, 3, dtype=torch.bool)}, ValueError, r"region.*\(1, 2, 3\)"),
        ({"region": torch.ones(2, 3)}, TypeError, "region.*float32"),
        ({"region": np.ones((2, 3), dtype=np.uint8)}, TypeError, "region.*uint8"),
        ({"region": [[True]]}, TypeError, "region.*list"),
    ],
)
def test_a_postprocessing_that_makes_no_sense(arguments, error, words):
    with pytest.raises(error, match=words):
        agg_segmentation_postprocessing(**{"classes_numb": 3, **arguments})


def test_the_number_of_classes_is_needed_to_count_labels():
    after = agg_segmentation_postprocessing()
    for labels in (torch.zeros(1, 2, 2), torch.zeros(0, 2, 2)):
        with pytest.raises(ValueError, match="classes_numb is missing"):
            after(labels)


def test_the_examples_run():
    results = doctest.testmod(utils)
    assert (results.failed, results.attempted > 0) == (0, True)
