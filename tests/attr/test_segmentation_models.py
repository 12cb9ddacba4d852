"""Segmentation models in every method, through sums of scores and counts of labels per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import (
    FeatureAblation,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    Lime,
    NoiseTunnel,
    Occlusion,
    Saliency,
    ShapleyValueSampling,
)
from meteors_c.models import ExplainableModel, SkLearnLinearRegression
from meteors_c.utils import agg_segmentation_postprocessing
from tests.parity import reference
from tests.parity.reference_perturbation import inner, occlusion, tunnel
from tests.toys import BANDS, COLUMNS, PATHS, ROWS, Watched, cube, each_value, evaluated, spatial_mask, values

CLASSES = 3
TARGETS = range(CLASSES)
SOFT = agg_segmentation_postprocessing(soft_labels=True)
HARD = agg_segmentation_postprocessing(classes_numb=CLASSES)
GRADIENT_METHODS: dict[str, tuple[type[Any], Callable[..., torch.Tensor]]] = {
    "Saliency": (Saliency, reference.saliency),
    "InputXGradient": (InputXGradient, reference.input_x_gradient),
    "IntegratedGradients": (IntegratedGradients, reference.integrated_gradients),
}


class FullyConvolutional(nn.Module):
    """Scores (n, CLASSES, ROWS, COLUMNS) in float64; every class has pixels in the images of the tests."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.Tanh) -> None:
        super().__init__()
        torch.manual_seed(5)
        layers = (nn.Conv2d(BANDS, 6, 3, padding=1), activation(), nn.Conv2d(6, CLASSES, 3, padding=1))
        self.body = nn.Sequential(*layers).double().eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Labels(nn.Module):
    """The label of each pixel, (n, ROWS, COLUMNS); 255 where the image is 0 in all bands, if `no_data`."""

    def __init__(self, dtype: torch.dtype = torch.int64, no_data: bool = False) -> None:
        super().__init__()
        self.scores, self.dtype, self.no_data = FullyConvolutional(), dtype, no_data

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        labels = self.scores(x).argmax(1)
        return (torch.where((x == 0).all(1), 255, labels) if self.no_data else labels).to(self.dtype)


class ConnectedLabels(Labels):
    """Whole numbers as floats that are connected to the image in torch's graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.scores(x)
        return scores.argmax(1) + scores.mean(1) * 0


def segmentation(network: nn.Module, after: Callable[[Any], torch.Tensor]) -> ExplainableModel:
    return ExplainableModel(network.eval(), "segmentation", after)


def composed(network: nn.Module, after: Callable[[Any], torch.Tensor]) -> reference.Model:
    """The same model as a plain function."""
    return lambda x: after(network(x))


def superpixels() -> torch.Tensor:
    return torch.tensor([[0, 0, 1], [0, 2, 1], [2, 2, 1], [3, 3, 3]])


def ablation(model: reference.Model, x: torch.Tensor, ids: torch.Tensor, target: int) -> torch.Tensor:
    """f(x) - f(x without the superpixel) at each value, for the baseline 0."""
    found = torch.zeros_like(x)
    for feature in ids.unique():
        inside = ids == feature
        found[:, inside] = reference.output(model, x, target) - reference.output(model, x * ~inside, target)
    return found


def test_every_class_has_pixels() -> None:
    for seed, activation in [(0, nn.Tanh), (1, nn.Tanh), (0, nn.ReLU)]:
        counts = HARD(FullyConvolutional(activation)(cube(seed).image[None]).argmax(1))
        assert counts.min() > 1
        assert counts.sum() == ROWS * COLUMNS


# ---------------------------------------------------------------- sums of scores


@pytest.mark.parametrize(
    ("name", "path", "activation"),
    [(name, path, kind) for name in GRADIENT_METHODS for path, kind in each_value(PATHS, [nn.Tanh, nn.ReLU])],
)
def test_gradients_through_sums_of_scores(name: str, path: str, activation: type[nn.Module]) -> None:
    network, hsi = FullyConvolutional(activation), cube(binary_mask=spatial_mask())
    kind, plain = GRADIENT_METHODS[name]
    for target in TARGETS:
        with mt.options(**PATHS[path]):
            found = kind(segmentation(network, SOFT)).attribute(hsi, target=target).attributes
        wanted = plain(composed(network, SOFT), hsi.get_image(), target=target)
        assert wanted.any()
        reference.assert_close(found, wanted)


def test_integrated_gradients_are_complete_over_all_classes() -> None:
    """The sum over classes, of the largest score of each pixel, is continuous; that of one class jumps on the way."""
    hsi, model = cube(), segmentation(FullyConvolutional(), SOFT)
    explainer = IntegratedGradients(model)
    results = [explainer.attribute(hsi, target=k, n_steps=2000, return_convergence_delta=True) for k in TARGETS]
    total = sum(float(result.attributes.sum()) for result in results)
    with torch.no_grad():
        differences = (model(hsi.image[None]) - model(torch.zeros_like(hsi.image)[None]))[0].tolist()
    assert abs(sum(differences)) > 0.1
    assert total == pytest.approx(sum(differences), abs=1e-3)
    for difference, result in zip(differences, results, strict=True):
        assert result.score == pytest.approx(float(result.attributes.sum()) - difference, abs=1e-9)


def test_integrated_gradients_of_a_class_are_complete_where_no_pixel_changes_its_class() -> None:
    network, hsi = FullyConvolutional(), cube()
    with torch.no_grad():
        network.body[2].bias += torch.tensor([0.0, 100.0, 0.0])
    found = IntegratedGradients(segmentation(network, SOFT)).attribute(
        hsi, target=1, n_steps=30, return_convergence_delta=True
    )
    difference = SOFT(network(hsi.image[None]))[0, 1] - SOFT(network(torch.zeros_like(hsi.image)[None]))[0, 1]
    assert abs(found.score) <= 1e-9
    assert float(found.attributes.sum()) == pytest.approx(difference.item(), abs=1e-9)


# ---------------------------------------------------------------- methods that need outputs alone


@pytest.mark.parametrize(
    ("network", "after", "path"),
    [
        (FullyConvolutional(), SOFT, "shortcut"),
        (FullyConvolutional(), SOFT, "plain"),
        (FullyConvolutional(nn.ReLU), SOFT, "python calls"),
        (Labels(), HARD, "shortcut"),
        (Labels(torch.uint8), HARD, "plain"),
        (Labels(torch.float16), HARD, "plain"),
        (Labels(torch.float64), HARD, "python calls"),
        (ConnectedLabels(), HARD, "plain"),
    ],
)
def test_occlusion_and_feature_ablation_by_hand(network: nn.Module, after: Any, path: str) -> None:
    hsi, model, plain = cube(), segmentation(network, after), composed(network, after)
    for target in TARGETS:
        with mt.options(**PATHS[path]):
            boxes = Occlusion(model).attribute(hsi, target, (BANDS, 2, 2), (BANDS, 1, 1), 0.3)
            pixels = Occlusion(model).get_spatial_attributes(hsi, target, 2, 2)
            bands = Occlusion(model).get_spectral_attributes(hsi, target, 2, 1)
            features = FeatureAblation(model).attribute(hsi, target, superpixels())
        wanted = occlusion(plain, hsi.image, (BANDS, 2, 2), (BANDS, 1, 1), 0.3, target)
        assert wanted.any()
        reference.assert_close(boxes.attributes, wanted)
        reference.assert_close(pixels.attributes, occlusion(plain, hsi.image, (BANDS, 2, 2), (BANDS, 2, 2), 0, target))
        wanted = occlusion(plain, hsi.image, (2, ROWS, COLUMNS), (1, ROWS, COLUMNS), 0, target)
        reference.assert_close(bands.attributes, wanted)
        reference.assert_close(features.attributes, ablation(plain, hsi.image, superpixels(), target))


def test_differences_of_counts_are_whole_and_lose_no_pixel() -> None:
    """Every pixel that leaves one class enters another."""
    model = segmentation(Labels(), HARD)
    found = torch.stack([one.attributes for one in FeatureAblation(model).attribute(cube(), "all", superpixels())])
    assert found.any()
    assert torch.equal(found, found.round())
    assert not found.sum(0).any()


@pytest.mark.parametrize(("network", "after"), [(FullyConvolutional(), SOFT), (Labels(), HARD)])
@pytest.mark.parametrize("path", ["plain", "shortcut"])
@pytest.mark.parametrize(
    "call",
    [
        lambda model, hsi, **which: Occlusion(model).attribute(
            hsi, sliding_window_shapes=(2, 2, 3), strides=(2, 1, 3), **which
        ),
        lambda model, hsi, **which: Occlusion(model).get_spatial_attributes(
            hsi, sliding_window_shapes=2, strides=1, **which
        ),
        lambda model, hsi, **which: Occlusion(model).get_spectral_attributes(hsi, sliding_window_shapes=2, **which),
        lambda model, hsi, **which: FeatureAblation(model).attribute(hsi, feature_mask=superpixels(), **which),
        lambda model, hsi, **which: Lime(model, SkLearnLinearRegression()).get_spatial_attributes(
            hsi, superpixels(), n_samples=30, **which
        ),
        lambda model, hsi, **which: KernelShap(model).get_spatial_attributes(hsi, superpixels(), **which),
        lambda model, hsi, **which: ShapleyValueSampling(model).get_spatial_attributes(
            hsi, superpixels(), n_samples=4, **which
        ),
    ],
    ids=["boxes", "pixels", "bands", "superpixels", "Lime", "KernelShap", "ShapleyValueSampling"],
)
def test_all_classes_from_one_set_of_evaluations(network: nn.Module, after: Any, path: str, call: Any) -> None:
    seeded = call

    def call(*arguments: Any, **which: Any) -> Any:
        torch.manual_seed(0)
        return seeded(*arguments, **which)

    watched = Watched(network)
    model, images = segmentation(watched, after), [cube(), cube(1)]
    with mt.options(**PATHS[path]):
        every = call(model, images, target="all")
        samples = sum(watched.sizes)
        some = call(model, images, target=[2, 0], per_target=True)
        singles = [call(model, images, target=target) for target in TARGETS]
    assert [len(of_one_image) for of_one_image in every] == [CLASSES] * 2
    report = singles[0][0].report
    for image in range(2):
        for target in TARGETS:
            one, alone = every[image][target], singles[target][image]
            assert one.target == alone.target == target
            reference.assert_close(one.attributes, alone.attributes, 1e-12)
        for one, target in zip(some[image], (2, 0), strict=True):
            reference.assert_close(one.attributes, every[image][target].attributes, 1e-12)
        for found in (*every[image], *some[image]):
            assert found.report.evaluations == report.evaluations
            assert found.report.shortcut_evaluations == report.shortcut_evaluations
    if path == "plain":
        assert samples == evaluated(every[0][0].report)


# ---------------------------------------------------------------- counts of labels have no useful gradient


@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_gradients_of_connected_labels_are_zero(name: str) -> None:
    kind, _ = GRADIENT_METHODS[name]
    model = segmentation(ConnectedLabels(), HARD)
    for explainer in (kind(model), NoiseTunnel(kind(model)), HyperNoiseTunnel(kind(model))):
        found = [explainer.attribute(cube(), target=1).attributes for _ in range(2)]
        for one in found:
            assert one.shape == cube().image.shape
            assert not one.any()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", GRADIENT_METHODS)
def test_labels_without_a_graph_are_refused(name: str, path: str) -> None:
    kind, _ = GRADIENT_METHODS[name]
    model = segmentation(Labels(), HARD)
    for explainer in (kind(model), NoiseTunnel(kind(model)), HyperNoiseTunnel(kind(model))):
        with mt.options(**PATHS[path]), pytest.raises(RuntimeError, match="gradient"):
            explainer.attribute(cube(), target=1)


# ---------------------------------------------------------------- tunnels


@pytest.mark.parametrize("name", [*GRADIENT_METHODS, "Occlusion"])
@pytest.mark.parametrize("kind", [NoiseTunnel, HyperNoiseTunnel])
def test_tunnels_in_plain_torch(kind: Any, name: str) -> None:
    """The samples come from perturb_input under the same seed."""
    network, hsi = FullyConvolutional(), cube(binary_mask=spatial_mask())
    given: dict[str, Any] = {"stdevs": 0.3} if kind is NoiseTunnel else {"baseline": values(3)}
    torch.manual_seed(5)
    drawn = kind.perturb_input(hsi.image, n_samples=4, **given) * hsi.binary_mask
    for method in ("smoothgrad", "vargrad"):
        torch.manual_seed(5)
        explainer = kind(getattr(mt.attr, name)(segmentation(network, SOFT)))
        found = explainer.attribute(hsi, target=1, n_samples=4, method=method, **given).attributes
        wanted = tunnel(method, inner(name, composed(network, SOFT), 1), drawn)
        assert wanted.any()
        reference.assert_close(found, wanted, 1e-9)


@pytest.mark.parametrize("kind", [NoiseTunnel, HyperNoiseTunnel])
def test_tunnels_around_occlusion_of_counts(kind: Any) -> None:
    network, hsi = Labels(), cube()
    given: dict[str, Any] = {"stdevs": 0.3} if kind is NoiseTunnel else {"baseline": values(3)}
    torch.manual_seed(6)
    drawn = kind.perturb_input(hsi.image, n_samples=3, **given)
    torch.manual_seed(6)
    found = kind(Occlusion(segmentation(network, HARD))).attribute(hsi, target=0, n_samples=3, **given).attributes
    wanted = tunnel("smoothgrad", inner("Occlusion", composed(network, HARD), 0), drawn)
    assert wanted.any()
    reference.assert_close(found, wanted)


# ---------------------------------------------------------------- several images, regions, ignored labels, devices


@pytest.mark.parametrize("name", [*GRADIENT_METHODS, "Occlusion", "FeatureAblation"])
def test_several_images_with_a_class_each(name: str) -> None:
    explainer = getattr(mt.attr, name)(segmentation(FullyConvolutional(), SOFT))
    images, targets = [cube(0), cube(1), cube(2, binary_mask=spatial_mask())], [2, 0, 1]
    for image, target, found in zip(images, targets, explainer.attribute(images, target=targets), strict=True):
        reference.assert_close(found.attributes, explainer.attribute(image, target=target).attributes)


def test_a_region_of_interest_leaves_out_what_its_pixels_do_not_see() -> None:
    """Two convolutions of 3 x 3: the corner's scores depend on two pixels around it."""
    corner = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    corner[0, 0] = True
    after = agg_segmentation_postprocessing(True, region=corner)
    network, hsi = FullyConvolutional(), cube()
    scores = network(hsi.image[None])[0, :, 0, 0].detach()
    target = int(scores.argmax())
    model = segmentation(network, after)
    assert torch.equal(model(hsi.image[None])[0, target], scores[target])
    found = {
        "saliency": Saliency(model).attribute(hsi, target=target),
        "gradients": IntegratedGradients(model).attribute(hsi, target=target),
        "occlusion": Occlusion(model).get_spatial_attributes(hsi, target=target),
    }
    for name, result in found.items():
        touched = result.attributes.ne(0).any(0)
        assert touched[:3, :3].all(), name
        assert not touched[3:].any(), name
    wanted = reference.saliency(lambda x: network(x)[:, :, 0, 0], hsi.image, target)
    reference.assert_close(found["saliency"].attributes, wanted)


def test_ignored_labels_are_no_class() -> None:
    network, hsi = Labels(torch.uint8, no_data=True), cube(binary_mask=spatial_mask())
    after = agg_segmentation_postprocessing(classes_numb=CLASSES, ignore_index=255)
    with pytest.raises(ValueError, match="255"):
        FeatureAblation(segmentation(network, HARD)).attribute(hsi, "all", superpixels())
    every = FeatureAblation(segmentation(network, after)).attribute(hsi, "all", superpixels())
    plain, image = composed(network, after), hsi.get_image()
    for target, found in enumerate(every):
        reference.assert_close(found.attributes, ablation(plain, image, superpixels(), target))
    # A superpixel that is covered is without data: its valid pixels leave the classes, and no others do.
    lost = torch.stack([found.attributes[0] for found in every]).sum(0)
    for label in superpixels().unique():
        inside = superpixels() == label
        assert set(lost[inside].tolist()) == {float((inside & spatial_mask()[0]).sum())}


def test_a_region_and_ignored_labels_in_every_method_at_once() -> None:
    region = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    region[2:] = False
    after = agg_segmentation_postprocessing(classes_numb=CLASSES, ignore_index=255, region=region)
    network, hsi = Labels(no_data=True), cube(binary_mask=spatial_mask())
    plain, image = composed(network, after), hsi.get_image()
    assert int(plain(image[None]).sum()) == 2 * COLUMNS - 1
    for target in TARGETS:
        found = Occlusion(segmentation(network, after)).get_spatial_attributes(hsi, target, 2, 2)
        wanted = occlusion(plain, image, (BANDS, 2, 2), (BANDS, 2, 2), 0, target)
        reference.assert_close(found.attributes, wanted)
    shares = KernelShap(segmentation(network, after)).get_spatial_attributes(hsi, superpixels(), target="all")
    counts = plain(image[None])[0]
    assert [share.effects.output for share in shares] == counts.tolist()
    for share in shares:  # pixels outside of the region, and those without data, have no class to share
        assert float(share.effects.values.sum()) == pytest.approx(share.effects.output - share.effects.baseline_output)


def test_moving_the_explainer_moves_the_network() -> None:
    network = FullyConvolutional()
    explainer = IntegratedGradients(segmentation(network, SOFT))
    assert explainer.device == torch.device("cpu")
    explainer.to("meta")
    assert explainer.device == torch.device("meta")
    assert all(parameter.is_meta for parameter in network.parameters())
