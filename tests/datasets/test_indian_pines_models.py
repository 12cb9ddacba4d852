"""The networks for Indian Pines: what they reach on held-out pixels is what is recorded, and they look no further."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from meteors_c import datasets
from meteors_c.datasets import IndianPines
from meteors_c.datasets._indian_pines_models import Segmenter, UNet
from meteors_c.datasets.indian_pines import GROUPS, group_labels, held_out_strips

FOLDER = Path(datasets.__file__).parent


@pytest.fixture(scope="module")
def scene() -> IndianPines:
    pytest.importorskip("tensorly")
    return datasets.load_indian_pines()


def recorded(file: str, name: str | None = None) -> dict:
    record = json.loads((FOLDER / file).read_text(encoding="utf-8"))
    return (record if name is None else record[name])["held_out"]


def patches(scene: IndianPines, size: int = 9) -> torch.Tensor:
    """Patches about the held-out pixels."""
    padded = nn.functional.pad(scene.hsi.image[None], (size // 2,) * 4, mode="reflect")[0]
    where = scene.held_out.nonzero().tolist()
    return torch.stack([padded[:, row : row + size, column : column + size] for row, column in where])


def accuracies(predicted: torch.Tensor, known: torch.Tensor) -> tuple[float, float]:
    """Of all pixels, and the mean over the classes."""
    right = (predicted == known).double()
    classes = [right[known == label].mean().item() for label in known.unique()]
    return right.mean().item(), sum(classes) / len(classes)


@torch.no_grad()
def test_held_out_accuracy_is_what_is_recorded(scene: IndianPines) -> None:
    known = scene.labels[scene.held_out].long()
    classifier, segmenter, unet = (
        datasets.indian_pines_classifier(),
        datasets.indian_pines_segmenter(),
        datasets.indian_pines_unet(),
    )
    image = scene.hsi.image[None]
    of_patches = torch.cat([classifier(part) for part in patches(scene).split(256)]).argmax(1) + 1
    of_pixels = segmenter(image)[0][:, scene.held_out].argmax(0) + 1
    of_groups = unet(image)[0][:, scene.held_out].argmax(0)
    found = {
        "classifier": (of_patches, known, recorded("indian_pines_models.json", "classifier")),
        "segmenter": (of_pixels, known, recorded("indian_pines_models.json", "segmenter")),
        "unet": (of_groups, group_labels(scene.labels)[scene.held_out], recorded("indian_pines_unet.json")),
    }
    for name, (predicted, truth, record) in found.items():
        overall, average = accuracies(predicted, truth)
        # Another processor may round a tie the other way.
        assert overall == pytest.approx(record["overall"], abs=3e-3), name
        assert average == pytest.approx(record["average_per_class"], abs=1e-2), name
        assert record["pixels"] == int(scene.held_out.sum())
        # Far above always naming the most frequent class.
        assert overall > truth.bincount().max().item() / len(truth) + 0.15, name


def test_files_are_small() -> None:
    size = {path.stem: path.stat().st_size for path in FOLDER.glob("indian_pines_*.npz")}
    assert set(size) == {"indian_pines_classifier", "indian_pines_segmenter", "indian_pines_unet"}
    assert size["indian_pines_classifier"] + size["indian_pines_segmenter"] < 300_000
    assert size["indian_pines_unet"] < 400_000


@pytest.mark.parametrize("make", [Segmenter, UNet])
def test_maps_have_the_size_of_the_image(make: type[nn.Module]) -> None:
    model = make(classes=3, bands=4)
    assert model.eval()(torch.rand(2, 4, 13, 10)).shape == (2, 3, 13, 10)


def test_segmenter_looks_at_3_by_3_pixels() -> None:
    image = torch.rand(1, 4, 9, 9, requires_grad=True)
    Segmenter(classes=3, bands=4)(image)[0, :, 4, 4].sum().backward()
    seen = image.grad[0].abs().sum(0) > 0
    wanted = torch.zeros(9, 9, dtype=torch.bool)
    wanted[3:6, 3:6] = True
    assert torch.equal(seen, wanted)


def test_classifier_looks_at_the_whole_patch_and_at_every_band_but_the_last() -> None:
    patch = 1000.0 * torch.rand(1, 200, 9, 9)
    patch.requires_grad_()
    datasets.indian_pines_classifier()(patch).logsumexp(1).sum().backward()
    seen = patch.grad[0].abs()
    assert (seen.sum(0) > 0).all()
    assert (seen.sum((1, 2)) > 0).tolist() == 199 * [True] + [False]


def test_groups_have_every_class_once() -> None:
    members = sorted(label for _, labels in GROUPS for label in labels)
    assert members == list(range(1, 17))
    assert group_labels(torch.tensor([0, 3, 11, 16])).tolist() == [-1, 0, 1, 4]


def test_unet_was_trained_without_what_is_held_out(scene: IndianPines) -> None:
    """Every held-out pixel lies in the strips that were hidden from it."""
    assert (held_out_strips() | ~scene.held_out).all()
    assert not (held_out_strips() & scene.training).any()
