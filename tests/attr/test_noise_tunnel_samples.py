"""Noise tunnels: which values of an image are disturbed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import HSI
from meteors_c.attr import HyperNoiseTunnel, NoiseTunnel, Occlusion, Saliency
from meteors_c.attr.noise_tunnel import BaseNoiseTunnel, NoiseTunnelType, torch_random_choice
from meteors_c.exceptions import ShapeMismatchError
from tests.attr.tunnels import INNERS, MOMENTS, TUNNELS, Elementwise, Recorder, run, samples
from tests.parity.reference import assert_close
from tests.parity.reference_perturbation import inner, tunnel
from tests.toys import ORIENTATIONS, SHAPE, WAVELENGTHS, convolutional, cube, each_value, name_of, spatial_mask, values

# ---------------------------------------------------------------- where the noise goes


@pytest.mark.parametrize("kind", TUNNELS)
def test_noise_is_drawn_before_the_mask(kind: type) -> None:
    mask = spatial_mask().expand(SHAPE)
    given: dict[str, Any] = {} if kind is NoiseTunnel else {"baseline": 0.5}
    masked = samples(kind, cube(binary_mask=mask), 3, n_samples=6, **given)
    assert torch.equal(masked, samples(kind, cube(), 3, n_samples=6, **given) * mask)


def test_stdevs() -> None:
    shown = samples(NoiseTunnel, cube(), 3, stdevs=0.25) - values()
    assert_close(shown, 0.25 * (samples(NoiseTunnel, cube(), 3) - values()), 1e-12)


def test_numbers_may_be_those_of_numpy() -> None:
    for kind, given in [
        (NoiseTunnel, {"stdevs": 0.5, "tolerance": 0.25, "n_samples": 20}),
        (NoiseTunnel, {"perturbation_axis": (1, slice(None), -1)}),
        (HyperNoiseTunnel, {"perturbation_prob": 0.25}),
        (HyperNoiseTunnel, {"num_perturbed_bands": 2, "steps_per_batch": 3}),
    ]:
        same = {
            name: tuple(np.int64(one) if isinstance(one, int) else one for one in value)
            if isinstance(value, tuple)
            else np.float32(value)
            if isinstance(value, float)
            else np.int64(value)
            for name, value in given.items()
        }
        wanted = run(kind, Saliency, Elementwise(), cube(), 3, **given).attributes
        assert torch.equal(run(kind, Saliency, Elementwise(), cube(), 3, **same).attributes, wanted)


@pytest.mark.parametrize("container", [list, tuple])
def test_a_stdev_for_each_image(container: Callable[[Any], Any]) -> None:
    model, images = Recorder(Elementwise()), [cube(0), cube(1), cube(2)]
    found = run(NoiseTunnel, Saliency, model, images, 3, n_samples=4, stdevs=container([0.5, 0, 2]), steps_per_batch=1)
    shown = torch.cat(model.seen).reshape(3, 4, *SHAPE)
    for one, hsi, stdev in zip(shown, images, (0.5, 0, 2), strict=True):
        assert float((one - hsi.image).std()) == pytest.approx(stdev, rel=0.25)
    for one, hsi, stdev in zip(found, images, (0.5, 0, 2), strict=True):
        wanted = run(NoiseTunnel, Saliency, Elementwise(), hsi, 3, n_samples=4, stdevs=stdev)
        assert torch.equal(one.attributes, wanted.attributes)


AXES: list[tuple[int | slice, ...]] = [
    (0,),
    (-1,),
    (slice(1, 3),),
    (slice(None), 2),
    (slice(None, None, 2), slice(-2, None), 0),
    (3, 1, 2),
    (slice(None),) * 3,
    (),
    (slice(2, 2),),
    (slice(None, None, -1), slice(0, 1)),
]


@pytest.mark.parametrize(("axis", "explainer"), each_value(AXES, [Saliency, Occlusion, Saliency]), ids=name_of)
def test_perturbation_axis(axis: Any, explainer: type) -> None:
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[tuple(slice(one, one + 1 or None) if isinstance(one, int) else slice(None) for one in axis)] = True
    chosen = torch.zeros(SHAPE)
    chosen.numpy()[axis] = 1
    shown = samples(NoiseTunnel, cube(), 3, perturbation_axis=axis, n_samples=3)
    assert torch.equal((shown != values()).all(0), chosen.bool())
    assert torch.equal((shown != values()).any(0), chosen.bool())
    found = run(NoiseTunnel, explainer, convolutional(), cube(), 3, perturbation_axis=axis, n_samples=3).attributes
    assert_close(found, tunnel("smoothgrad", inner(explainer.__name__, convolutional(), 0), shown), 1e-9)


def test_perturbation_axis_is_in_the_axes_of_the_image() -> None:
    hsi = cube().change_orientation("HWC")
    shown = samples(NoiseTunnel, hsi, perturbation_axis=(slice(None), slice(None), 4))
    assert (shown != hsi.image).any(0).nonzero()[:, 2].unique().tolist() == [4]


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_exactly_so_many_bands_are_replaced(number: int) -> None:
    shown = samples(HyperNoiseTunnel, cube(), 3, n_samples=60, num_perturbed_bands=number, baseline=7)
    replaced = shown == 7
    assert torch.equal(replaced, replaced[:, :, :1, :1].expand_as(replaced))
    assert torch.equal(shown[~replaced], values().expand_as(shown)[~replaced])
    bands = replaced[:, :, 0, 0]
    assert bands.sum(1).tolist() == [number] * 60
    if 0 < number < 5:
        assert bands.any(0).all()
        assert not bands.all(0).any()


@pytest.mark.parametrize(("orientation", "explainer"), each_value(ORIENTATIONS, INNERS), ids=name_of)
def test_bands_of_every_orientation(orientation: str, explainer: type) -> None:
    """Model, baseline and result are in the image's own axes; the caller's list and images stay as they are."""
    order = ["CHW".index(letter) for letter in orientation]
    back = [orientation.index(letter) for letter in "CHW"]
    image, baseline = values().permute(order).contiguous(), values(9).permute(order)
    hsi = HSI(image=image, wavelengths=WAVELENGTHS, orientation=orientation)
    hsi.binary_mask = spatial_mask().expand(SHAPE).permute(order)
    body = convolutional()

    def model(x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == image.shape
        return body(x.permute(0, *(1 + axis for axis in back)))

    images, baselines = [hsi, hsi], [baseline, 0.5]
    found = run(HyperNoiseTunnel, explainer, model, images, 3, baseline=baselines, n_samples=3)
    assert images[0] is images[1] is hsi
    assert len(images) == len(baselines) == 2
    assert hsi.orientation == tuple(orientation)
    assert hsi.image.data_ptr() == image.data_ptr()
    assert torch.equal(image.permute(back), values())
    for one, level in zip(found, [values(9), 0.5], strict=True):
        plain = cube(binary_mask=spatial_mask())
        wanted = run(HyperNoiseTunnel, explainer, body, plain, 3, baseline=level, n_samples=3).attributes
        assert one.orientation == tuple(orientation)
        assert_close(one.attributes.permute(back), wanted, 1e-11)


# ---------------------------------------------------------------- samples alone


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_perturb_input_with_noise(dtype: torch.dtype) -> None:
    image = values(0, dtype)
    torch.manual_seed(3)
    found = NoiseTunnel.perturb_input(image, 50, None, 0.5)
    assert found.shape == (50, *SHAPE)
    assert found.dtype == dtype
    assert float((found - image).std()) == pytest.approx(0.5, rel=0.05)
    torch.manual_seed(3)
    assert torch.equal(NoiseTunnel.perturb_input(image, n_samples=50, stdevs=0.5), found)
    assert torch.equal(image, values(0, dtype))
    assert NoiseTunnel.perturb_input(image).shape == (1, *SHAPE)
    part = NoiseTunnel.perturb_input(image, 2, (1, slice(0, 2)), 1.0)
    assert (part != image).any(0).nonzero().unique(dim=0)[:, :2].unique(dim=0).tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_perturb_input_with_bands(dtype: torch.dtype) -> None:
    image, baseline = values(0, dtype), values(1, dtype)
    torch.manual_seed(3)
    found = HyperNoiseTunnel.perturb_input(image, baseline, 50)
    assert found.shape == (50, *SHAPE)
    assert found.dtype == dtype
    from_baseline = (found == baseline).all((2, 3))
    assert torch.equal(from_baseline, ~(found == image).all((2, 3)))
    assert 0.3 < float(from_baseline.double().mean()) < 0.7
    torch.manual_seed(3)
    assert torch.equal(HyperNoiseTunnel.perturb_input(image, baseline, 50), found)
    exact = HyperNoiseTunnel.perturb_input(image, baseline, 20, 0.5, 2)
    assert (exact == baseline).all((2, 3)).sum(1).tolist() == [2] * 20
    assert torch.equal(HyperNoiseTunnel.perturb_input(image, baseline, perturbation_prob=0)[0], image)
    assert torch.equal(HyperNoiseTunnel.perturb_input(image, baseline, perturbation_prob=1)[0], baseline)


def test_perturb_input_takes_views() -> None:
    image, baseline = values().permute(2, 0, 1), values(1).permute(2, 0, 1)
    found = HyperNoiseTunnel.perturb_input(image, baseline, 8, num_perturbed_bands=1)
    assert (found == baseline).all((2, 3)).sum(1).tolist() == [1] * 8
    assert (found == image).all((2, 3)).sum(1).tolist() == [2] * 8
    assert torch.equal(NoiseTunnel.perturb_input(image, stdevs=0)[0], image)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: NoiseTunnel.perturb_input(x, 0), ValueError, "n_samples"),
        (lambda x: NoiseTunnel.perturb_input(x, -1), ValueError, "n_samples"),
        (lambda x: NoiseTunnel.perturb_input(x, 1, (0,) * 4), IndexError, "perturbation_axis"),
        (lambda x: NoiseTunnel.perturb_input(x, 1, None, -1.0), ValueError, "stdevs"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 0), ValueError, "n_samples"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, 1.5), ValueError, "perturbation_prob"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, -0.1), ValueError, "perturbation_prob"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, 0.5, 6), ValueError, "num_perturbed_bands"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, 0.5, -1), ValueError, "num_perturbed_bands"),
        (lambda x: HyperNoiseTunnel.perturb_input(x), ValueError, "baseline"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x[:4]), ShapeMismatchError, "baseline"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x.mT), ShapeMismatchError, "baseline"),
        (lambda x: HyperNoiseTunnel.perturb_input(x[0], x), ShapeMismatchError, "baseline"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x[0]), ShapeMismatchError, "baseline"),
        (lambda x: HyperNoiseTunnel.perturb_input(x[0], x[0, :2]), ShapeMismatchError, "baseline"),
        (lambda x: HyperNoiseTunnel.perturb_input(x[0], x[0]), ValueError, "input.*three axes"),
    ],
)
def test_perturb_input_refuses(call: Callable[[torch.Tensor], Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call(values())


def test_the_base_of_the_tunnels_has_no_perturbation_of_its_own() -> None:
    assert issubclass(NoiseTunnel, BaseNoiseTunnel)
    assert issubclass(HyperNoiseTunnel, BaseNoiseTunnel)
    with pytest.raises(NotImplementedError, match="HyperNoiseTunnel"):
        BaseNoiseTunnel.perturb_input(values(), n_samples=2)


@pytest.mark.parametrize("kind", TUNNELS)
def test_a_moment_by_its_member(kind: type) -> None:
    assert [member.value for member in NoiseTunnelType] == MOMENTS
    for member in NoiseTunnelType:
        by_name, by_member = (
            run(kind, Saliency, convolutional(), cube(), n_samples=3, method=method).attributes
            for method in (member.value, member)
        )
        assert_close(by_name, by_member, 1e-13)


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 1), (7, 3), (7, 7), (40, 1), (40, 39)])
def test_torch_random_choice(n: int, k: int) -> None:
    torch.manual_seed(1)
    found = torch_random_choice(n, k, 500)
    assert found.dtype == torch.bool
    assert found.shape == (500, n)
    assert found.sum(1).tolist() == [k] * 500
    share, error = k / n, math.sqrt(k / n * (1 - k / n) / 500)
    assert ((found.double().mean(0) - share).abs() <= 4 * error + 1e-12).all()
    torch.manual_seed(1)
    assert torch.equal(torch_random_choice(n, k, 500, device="cpu"), found)


def test_torch_random_choice_chooses_every_pair() -> None:
    torch.manual_seed(1)
    found = torch_random_choice(5, 2, 5000).double()
    pairs = (found.T @ found)[torch.ones(5, 5).triu(1).bool()]
    assert ((pairs - 500).abs() < 4 * math.sqrt(5000 * 0.1 * 0.9)).all()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((3, 4, 1), ValueError),
        ((3, -1, 1), ValueError),
        ((-3, 0, 1), ValueError),
        ((3.0, 1, 1), TypeError),
        ((3, 1.0, 1), TypeError),
        ((3, 1, 1.0), TypeError),
        ((3, 1, "1"), TypeError),
        ((torch.tensor(3.0), 1, 1), TypeError),
    ],
)
def test_torch_random_choice_refuses(arguments: tuple[Any, ...], error: Any) -> None:
    with pytest.raises(error):
        torch_random_choice(*arguments)
