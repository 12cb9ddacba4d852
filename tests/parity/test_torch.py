"""Every method against plain torch, within 1e-10 of the largest value in float64 and 1e-5 in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import InputXGradient, IntegratedGradients, Saliency
from meteors_c.models import ExplainableModel
from meteors_c.utils import agg_segmentation_postprocessing
from tests.parity import reference
from tests.parity.reference import assert_close
from tests.toys import (
    METHODS,
    ORIENTATIONS,
    PATHS,
    Grid,
    Segmenter,
    assert_declined,
    assert_shortcut,
    convolutional,
    cube,
    each_pair,
    each_value,
    explainable,
    name_of,
    smooth,
    spatial_mask,
    traced,
    values,
)

DTYPES = [torch.float64, torch.float32]


def check_all(model: Any, hsi: Any, target: Any = None, **arguments: Any) -> None:
    """Compare the three methods with the reference on one image."""
    explained, x = explainable(model), hsi.get_image()
    extras = arguments.get("additional_forward_args", ())
    extras = extras if isinstance(extras, tuple) else (extras,)
    assert_close(
        Saliency(explained).attribute(hsi, target=target, **arguments).attributes,
        reference.saliency(model, x, target, extras),
    )
    assert_close(
        InputXGradient(explained).attribute(hsi, target=target, **arguments).attributes,
        reference.input_x_gradient(model, x, target, extras),
    )
    assert_close(
        IntegratedGradients(explained).attribute(hsi, target=target, **arguments).attributes,
        reference.integrated_gradients(model, x, 0.0, target, extras),
    )


# ---------------------------------------------------------------- dtypes, rules, baselines, targets


@pytest.mark.parametrize(
    ("activation", "dtype", "path"), each_pair([nn.Tanh, nn.ReLU, nn.GELU], DTYPES, PATHS), ids=name_of
)
def test_networks(activation: Any, dtype: torch.dtype, path: str) -> None:
    with mt.options(**PATHS[path]):
        check_all(convolutional(activation, dtype), cube(1, dtype), target=1)


@pytest.mark.parametrize(
    ("method", "n_steps", "dtype", "path"), each_pair(METHODS, [2, 3, 17], DTYPES, PATHS), ids=name_of
)
def test_quadrature_rules(method: str, n_steps: int, dtype: torch.dtype, path: str) -> None:
    model, hsi, baseline = convolutional(dtype=dtype), cube(1, dtype), values(2, dtype)
    with mt.options(**PATHS[path]):
        found = IntegratedGradients(explainable(model)).attribute(
            hsi, baseline, target=0, n_steps=n_steps, method=method, return_convergence_delta=True
        )
    wanted = reference.integrated_gradients(model, hsi.image, baseline, 0, n_steps=n_steps, method=method)
    assert_close(found.attributes, wanted)
    delta = reference.convergence_delta(model, wanted, hsi.image, baseline, 0)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert found.score == pytest.approx(delta, abs=tolerance * float(wanted.abs().sum()))


def test_one_gauss_node() -> None:
    model, hsi = smooth(), cube()
    found = IntegratedGradients(explainable(model)).attribute(hsi, target=0, n_steps=1)
    assert_close(found.attributes, hsi.image * reference.gradient(model, hsi.image / 2, 0))


BASELINES = {
    "none": None,
    "zero": 0,
    "one": 1,
    "float": 0.3,
    "negative": -2.5,
    "bool": True,
    "tensor": values(5),
    "float32": values(5, torch.float32),
    "requires grad": values(5).requires_grad_(),
}


@pytest.mark.parametrize(("name", "path"), each_value(BASELINES, ["plain", "python calls", "shortcut"]))
def test_baselines(name: str, path: str) -> None:
    model, hsi, baseline = smooth(), cube(), BASELINES[name]
    with mt.options(**PATHS[path]):
        found = IntegratedGradients(explainable(model)).attribute(hsi, baseline, target=2)
    start = 0.0 if baseline is None else baseline.detach().double() if torch.is_tensor(baseline) else float(baseline)
    assert_close(found.attributes, reference.integrated_gradients(model, hsi.image, start, 2))


def test_a_baseline_with_strides() -> None:
    model, hsi, baseline = smooth(), cube(), values(5, shape=(3, 5, 4)).permute(1, 2, 0)
    found = IntegratedGradients(explainable(model)).attribute(hsi, baseline, target=2)
    assert_close(found.attributes, reference.integrated_gradients(model, hsi.image, baseline, 2))


def test_a_baseline_of_integers() -> None:
    model, hsi, baseline = smooth(), cube(), (10 * values(5)).to(torch.int16)
    found = IntegratedGradients(explainable(model)).attribute(hsi, baseline, target=2)
    assert_close(found.attributes, reference.integrated_gradients(model, hsi.image, baseline.double(), 2))


TARGETS: list[tuple[nn.Module, Any, Any]] = [
    (smooth(1), None, 0),
    (smooth(1), 0, 0),
    (nn.Sequential(smooth(1), nn.Flatten(0)), None, None),
    (smooth(), 2, 2),
    (smooth(), -1, 2),
    (smooth(), (1,), 1),
    (smooth(), torch.tensor(1), 1),
    (smooth(), torch.tensor([1]), 1),
    (smooth(), [1], 1),
    (Grid(), (1, 2), (1, 2)),
    (Grid(), (-1, -2), (1, 1)),
    (Grid(), [(0, 1)], (0, 1)),
]


@pytest.mark.parametrize(
    ("model", "target", "plain", "native"),
    # What is passed on as it is goes both ways; its other spellings are read before.
    [(*row, True) for row in TARGETS] + [(*TARGETS[i], False) for i in (0, 2, 4, 9, 10)],
)
def test_targets(model: nn.Module, target: Any, plain: Any, native: bool) -> None:
    hsi = cube(3)
    with mt.options(native=native):
        found = Saliency(explainable(model)).attribute(hsi, target=target).attributes
    assert_close(found, reference.saliency(model, hsi.image, plain))


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("internal_batch_size", "path"),
    [(None, "shortcut"), (4, "shortcut"), (1, "plain"), (4, "plain"), (4, "python calls")],
)
def test_lists_with_targets_and_baselines_of_their_own(internal_batch_size: int | None, path: str) -> None:
    model, images = Grid(), [cube(i) for i in range(4)]
    targets = [(0, 1), (1, -1), (1, 0), (0, 0)]
    baselines: list[Any] = [None, 0.5, values(9), 2]
    explained = explainable(model)
    with mt.options(**PATHS[path]):
        saliency = Saliency(explained).attribute(images, target=targets, abs=False)
        product = InputXGradient(explained).attribute(images, target=targets)
        integrated = IntegratedGradients(explained).attribute(
            images, baselines, targets, internal_batch_size=internal_batch_size, return_convergence_delta=True
        )
    for i, (hsi, target, baseline) in enumerate(zip(images, targets, baselines, strict=True)):
        start = 0.0 if baseline is None else baseline
        assert_close(saliency[i].attributes, reference.gradient(model, hsi.image, target))
        assert_close(product[i].attributes, reference.input_x_gradient(model, hsi.image, target))
        wanted = reference.integrated_gradients(model, hsi.image, start, target)
        assert_close(integrated[i].attributes, wanted)
        assert integrated[i].score == pytest.approx(
            reference.convergence_delta(model, wanted, hsi.image, start, target), abs=1e-12
        )
        assert integrated[i].hsi is hsi
        assert integrated[i].target == target


@pytest.mark.parametrize("target", [[0, 2, 1], torch.tensor([0, 2, 1]), [torch.tensor(0), 2, (1,)]])
def test_spellings_of_a_target_for_each_image(target: Any) -> None:
    model, images = smooth(), [cube(i) for i in range(3)]
    found = Saliency(explainable(model)).attribute(images, target=target)
    for result, hsi, plain in zip(found, images, [0, 2, 1], strict=True):
        assert_close(result.attributes, reference.saliency(model, hsi.image, plain))


def test_one_target_serves_all_images() -> None:
    model, images = smooth(), [cube(i) for i in range(3)]
    for result, hsi in zip(Saliency(explainable(model)).attribute(images, target=-2), images, strict=True):
        assert_close(result.attributes, reference.saliency(model, hsi.image, 1))


def test_a_list_of_one_gives_the_bare_result() -> None:
    model, hsi = smooth(), cube()
    bare = IntegratedGradients(explainable(model)).attribute([hsi], [0.5], [1])
    assert_close(bare.attributes, reference.integrated_gradients(model, hsi.image, 0.5, 1))


def test_images_of_a_list_may_differ_in_dtype() -> None:
    model, images = smooth(), [cube(0), cube(1, torch.float32)]
    for result, hsi in zip(Saliency(explainable(model)).attribute(images, target=0), images, strict=True):
        assert result.attributes.dtype == hsi.image.dtype
        assert_close(result.attributes.double(), reference.saliency(model, hsi.image.double(), 0), 1e-6)


# ---------------------------------------------------------------- arguments after the input


class Modulated(nn.Module):
    """smooth(x) * scale + shift, scale (n, 1) or a number, shift (3,) or a number."""

    def __init__(self) -> None:
        super().__init__()
        self.body = smooth()

    def forward(self, x: torch.Tensor, scale: Any, shift: Any = 0.0) -> torch.Tensor:
        return self.body(x * torch.as_tensor(scale).reshape(-1, 1, 1, 1)) + self.body(x + shift)


@pytest.mark.parametrize("native", [True, False])
def test_arguments_after_the_input(native: bool) -> None:
    with mt.options(native=native):
        check_all(Modulated(), cube(), target=1, additional_forward_args=3.0)
        check_all(Modulated(), cube(), target=1, additional_forward_args=(0.5, 0.25))
        check_all(Modulated(), cube(), target=1, additional_forward_args=(torch.tensor([0.5]), torch.tensor(0.25)))


@pytest.mark.parametrize(
    ("internal_batch_size", "path"),
    [(7, "shortcut"), (None, "shortcut"), (1, "plain"), (7, "plain"), (3, "python calls"), (7, "python calls")],
)
def test_a_tensor_with_one_row_for_each_image_goes_along(internal_batch_size: int | None, path: str) -> None:
    model, images = Modulated(), [cube(i) for i in range(3)]
    scales = torch.tensor([[0.5], [1.5], [-1.0]], dtype=torch.float64)
    with mt.options(**PATHS[path]):
        found = IntegratedGradients(explainable(model)).attribute(
            images,
            target=0,
            additional_forward_args=(scales, 0.125),
            n_steps=5,
            internal_batch_size=internal_batch_size,
            return_convergence_delta=True,
        )
        direct = Saliency(explainable(model)).attribute(images, target=0, additional_forward_args=(scales, 0.125))
    for i, hsi in enumerate(images):
        extras = (scales[i : i + 1], 0.125)
        wanted = reference.integrated_gradients(model, hsi.image, 0.0, 0, extras, 5)
        assert_close(found[i].attributes, wanted)
        delta = reference.convergence_delta(model, wanted, hsi.image, 0.0, 0, extras)
        assert found[i].score == pytest.approx(delta, abs=1e-12)
        assert_close(direct[i].attributes, reference.saliency(model, hsi.image, 0, extras))


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("native", [True, False])
def test_a_mask_hides_values_from_the_model_alone(native: bool) -> None:
    hsi = cube(binary_mask=spatial_mask())
    with mt.options(native=native):
        check_all(smooth(), hsi, target=0)
        gradient = Saliency(explainable(smooth())).attribute(hsi, target=0).attributes
        integrated = IntegratedGradients(explainable(smooth())).attribute(hsi, 0.5, target=0).attributes
    assert (gradient[:, 0, 1] != 0).all()
    assert (integrated[:, 0, 1] != 0).all()


@pytest.mark.parametrize(("orientation", "dtype"), each_value(ORIENTATIONS, DTYPES), ids=str)
def test_orientations_are_given_to_the_model_as_they_are(orientation: str, dtype: torch.dtype) -> None:
    turned = cube(2, dtype, binary_mask=spatial_mask()).change_orientation(orientation)
    assert orientation == "CHW" or not turned.image.is_contiguous()
    check_all(smooth(dtype=dtype), turned, target=1)


@pytest.mark.parametrize(
    "image",
    [
        values(4, shape=(10, 4, 6))[::2, :, 3:],
        values(4, shape=(1, 4, 3)).expand(5, 4, 3),
        values(4).flip(0),
        values(4).requires_grad_(),
        values(4).numpy()[::-1, :, ::-1],
        values(4).numpy().astype(">f8"),
    ],
    ids=["steps", "expanded", "flipped", "requires grad", "negative strides", "big-endian"],
)
def test_any_memory(image: Any) -> None:
    hsi = cube(image=image)
    hsi_plain = hsi.get_image().detach()
    for name, method in [("saliency", Saliency), ("input_x_gradient", InputXGradient)]:
        found = method(explainable(convolutional())).attribute(hsi, target=0).attributes
        assert_close(found, getattr(reference, name)(convolutional(), hsi_plain, 0))
    found = IntegratedGradients(explainable(convolutional())).attribute(hsi, target=0).attributes
    assert_close(found, reference.integrated_gradients(convolutional(), hsi_plain, 0.0, 0))


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.int64, torch.bool], ids=str)
def test_integer_images_become_float32(dtype: torch.dtype) -> None:
    image = (4 * values(6) + 5).to(torch.int16).to(dtype)
    model, as_float = convolutional(dtype=torch.float32), image.to(torch.float32)
    hsi = cube(image=image, binary_mask=spatial_mask())
    masked = as_float * hsi.binary_mask
    explained = explainable(model)
    assert_close(Saliency(explained).attribute(hsi, target=0).attributes, reference.saliency(model, masked, 0))
    assert_close(
        InputXGradient(explained).attribute(hsi, target=0).attributes, reference.input_x_gradient(model, masked, 0)
    )
    found = IntegratedGradients(explained).attribute(hsi, 1.5, target=0)
    assert_close(found.attributes, reference.integrated_gradients(model, masked, 1.5, 0))
    assert hsi.image.dtype == dtype


# ---------------------------------------------------------------- models


def test_segmentation_through_its_postprocessing() -> None:
    model, hsi = Segmenter().eval(), cube(3)
    after = agg_segmentation_postprocessing(soft_labels=True, classes_numb=2)
    explained = ExplainableModel(model, "segmentation", after)
    for target in (0, 1):
        assert_close(
            Saliency(explained).attribute(hsi, target=target).attributes,
            reference.saliency(lambda x: after(model(x)), hsi.image, target),
        )
        assert_close(
            IntegratedGradients(explained).attribute(hsi, 0.1, target=target).attributes,
            reference.integrated_gradients(lambda x: after(model(x)), hsi.image, 0.1, target),
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("compiled", "dtype"), each_value([torch.jit.script, traced], DTYPES), ids=name_of)
def test_torchscript_gives_the_eager_numbers(compiled: Any, dtype: torch.dtype) -> None:
    model = convolutional(dtype=dtype)
    script, images = compiled(model), [cube(i, dtype) for i in range(3)]
    for method in (Saliency, InputXGradient, IntegratedGradients):
        eager = method(explainable(model)).attribute(images, target=[0, 1, 2])
        found = method(explainable(script)).attribute(images, target=[0, 1, 2])
        assert found[0].report.model == "TorchScript"
        for ours, theirs in zip(found, eager, strict=True):
            assert_close(ours.attributes, theirs.attributes, 1e-12 if dtype == torch.float64 else 1e-5)


class ScriptModulated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = smooth()

    def forward(self, x: torch.Tensor, scale: torch.Tensor, shift: float) -> torch.Tensor:
        return self.body(x * scale.reshape(-1, 1, 1, 1) + shift)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_takes_arguments_after_the_input() -> None:
    model, images = ScriptModulated(), [cube(i) for i in range(2)]
    scales = torch.tensor([0.5, 2.0], dtype=torch.float64)
    found = IntegratedGradients(explainable(torch.jit.script(model))).attribute(
        images, target=1, additional_forward_args=(scales, 0.25), n_steps=4, internal_batch_size=3
    )
    for i, hsi in enumerate(images):
        extras = (scales[i : i + 1], 0.25)
        assert_close(found[i].attributes, reference.integrated_gradients(model, hsi.image, 0.0, 1, extras, 4))


def test_a_function_that_is_no_module() -> None:
    net = smooth()
    check_all(lambda x: torch.exp(net(x)), cube(), target=0)


# ---------------------------------------------------------------- ways through the engine


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shortcuts_agree_with_the_plain_path(dtype: torch.dtype) -> None:
    model, images = explainable(convolutional(dtype=dtype)), [cube(i, dtype) for i in range(3)]
    with mt.options(shortcuts="always"):
        taken = IntegratedGradients(model).attribute(images, values(8, dtype), [0, 1, 2])
    with mt.options(shortcuts=False):
        plain = IntegratedGradients(model).attribute(images, values(8, dtype), [0, 1, 2])
    assert_shortcut(taken[0].report, "affine prefix")
    assert_declined(plain[0].report, "switched_off")
    for ours, theirs in zip(taken, plain, strict=True):
        assert_close(ours.attributes, theirs.attributes, 1e-13 if dtype == torch.float64 else 1e-5)


def test_the_shortcut_is_as_exact_as_the_plain_path_where_gradients_jump() -> None:
    """On ReLU networks rounding decides which side of a kink a step is on, so float64 is the judge of both."""
    errors = {}
    truth = IntegratedGradients(explainable(convolutional(nn.ReLU))).attribute(cube(), target=1).attributes
    for path in ("shortcut", "plain"):
        with mt.options(**PATHS[path]):
            found = IntegratedGradients(explainable(convolutional(nn.ReLU, torch.float32)))
            result = found.attribute(cube(dtype=torch.float32), target=1).attributes.double()
        errors[path] = float((result - truth).abs().max() / truth.abs().max())
    assert errors["shortcut"] < 1e-5
    assert errors["shortcut"] < 4 * errors["plain"] + 1e-7


@pytest.mark.parametrize(("path", "dtype"), [("shortcut", DTYPES[1]), *each_value(PATHS, DTYPES)], ids=str)
def test_the_batch_size_does_not_show_in_the_numbers(path: str, dtype: torch.dtype) -> None:
    model, images = explainable(convolutional(dtype=dtype)), [cube(i, dtype) for i in range(3)]

    def run(size: int | None) -> torch.Tensor:
        with mt.options(**PATHS[path]):
            results = IntegratedGradients(model).attribute(
                images, 0.5, [0, 1, 2], n_steps=11, internal_batch_size=size, return_convergence_delta=True
            )
        scores = torch.tensor([result.score for result in results], dtype=torch.float64)
        return torch.cat([torch.stack([result.attributes for result in results]).double().ravel(), scores])

    alone = run(1)
    for size in (2, 3, 7, 33, 1000, None):
        assert_close(run(size), alone, 1e-12 if dtype == torch.float64 else 2e-6)
