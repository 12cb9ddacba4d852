"""Loading the embedded field, the demo model, and archives of the HYPERVIEW challenge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from meteors_c import datasets
from meteors_c.datasets import _simulate as simulate
from meteors_c.exceptions import ShapeMismatchError, ValidationError
from meteors_c.hsi import HSI

BANDS, ROWS, COLUMNS = 3, 4, 5


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """A tiny field: values 0, 1, 2, ...; the first row is to hide."""
    data = np.arange(BANDS * ROWS * COLUMNS, dtype=np.int16).reshape(BANDS, ROWS, COLUMNS)
    mask = np.zeros(data.shape, dtype=bool)
    mask[:, 0] = True
    return {"data": data, "mask": mask}


@pytest.fixture
def scene(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(tmp_path / "0.npz", **arrays)
    (tmp_path / "wavelenghts.txt").write_text("462.08, 465.27, 468.47,\n")
    return tmp_path / "0.npz"


def test_load_hyperview(scene: Path, arrays: dict[str, np.ndarray]) -> None:
    hsi = datasets.load_hyperview(scene)
    assert isinstance(hsi, HSI)
    assert hsi.image.dtype == torch.float32
    assert hsi.orientation == ("C", "H", "W")
    np.testing.assert_array_equal(hsi.image, arrays["data"])
    np.testing.assert_array_equal(hsi.binary_mask, ~arrays["mask"])
    np.testing.assert_allclose(hsi.wavelengths, [462.08, 465.27, 468.47])
    assert (hsi.get_image()[:, 0] == 0).all()
    assert (hsi.get_image()[2, 1:] > 0).all()


def test_load_hyperview_takes_a_str_and_a_flat_mask(scene: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(scene, data=arrays["data"], mask=arrays["mask"][0])
    np.testing.assert_array_equal(datasets.load_hyperview(str(scene)).binary_mask, ~arrays["mask"])


@pytest.mark.parametrize("kind", ["list", "array", "tensor", "file"])
def test_wavelengths_can_be_given(scene: Path, kind: str) -> None:
    (scene.parent / "other.txt").write_text("500 600\n700.5\n")
    values = [500.0, 600.0, 700.5]
    given = {
        "list": values,
        "array": np.array(values),
        "tensor": torch.tensor(values),
        "file": scene.parent / "other.txt",
    }[kind]
    np.testing.assert_allclose(datasets.load_hyperview(scene, wavelengths=given).wavelengths, values)


def test_wavelengths_file_in_the_usual_spelling(scene: Path) -> None:
    (scene.parent / "wavelenghts.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"wavelenghts\.txt.*wavelengths\.txt"):
        datasets.load_hyperview(scene)
    (scene.parent / "wavelengths.txt").write_text("1,2,3")
    np.testing.assert_array_equal(datasets.load_hyperview(scene).wavelengths, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mask": None}, ValidationError, "mask.*data"),
        ({"data": None, "mask": None, "other": np.zeros(2)}, ValidationError, "data.*mask"),
        ({"data": np.zeros((4, 5))}, ShapeMismatchError, r"data .*\(4, 5\)"),
        ({"mask": np.zeros((3, 4, 6), bool)}, ShapeMismatchError, r"mask .*\(3, 4, 5\).*\(3, 4, 6\)"),
        ({"mask": np.zeros((3, 4, 5))}, ValidationError, "mask.*bool.*float64"),
        ({"data": np.zeros((3, 4, 5), complex)}, ValidationError, "data .*real.*complex128"),
        ({"data": np.full((3, 4, 5), None)}, ValidationError, "npz"),
    ],
)
def test_bad_archives(scene: Path, arrays: dict, change: dict, error: type[Exception], words: str) -> None:
    arrays |= change
    np.savez(scene, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(error, match=words):
        datasets.load_hyperview(scene)


@pytest.mark.parametrize(
    ("wavelengths", "error", "words"),
    [
        ([1.0, 2.0], ShapeMismatchError, r"\(3,\).*\(2,\)"),
        ([[1.0, 2.0, 3.0]], ShapeMismatchError, r"\(1, 3\)"),
        ([1.0, float("nan"), 3.0], ValidationError, "wavelengths.*nan"),
        (["a", "b", "c"], ValidationError, "wavelengths"),
        ({"a": 1}, ValidationError, "wavelengths"),
    ],
)
def test_bad_wavelengths(scene: Path, wavelengths: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        datasets.load_hyperview(scene, wavelengths=wavelengths)  # type: ignore[arg-type]


def test_files_that_are_no_archives(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        datasets.load_hyperview(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(scene.read_bytes()[:200])
    for name in ("text.npz", "single.npy", "cut.npz"):
        with pytest.raises(ValidationError, match=name):
            datasets.load_hyperview(tmp_path / name)


def test_demo_field() -> None:
    hsi, truth = datasets.load_demo_field(), datasets.load_demo_truth()
    assert hsi.image.shape == (150, 96, 96)
    assert hsi.image.dtype == torch.float32
    assert (float(hsi.wavelengths[0]), float(hsi.wavelengths[-1])) == (462.08, 938.37)
    assert (torch.diff(hsi.wavelengths) > 3.0).all()
    inside = hsi.spatial_binary_mask
    assert 0.4 < inside.float().mean() < 0.9
    assert (hsi.binary_mask == inside).all()  # the same in every band
    assert truth.names == simulate.TARGET_NAMES
    assert truth.targets.shape == (4,)
    assert truth.reference.shape == (150,)
    assert truth.known_bands.shape == truth.response.shape == (4, 150)
    # The reference is an average pixel: near the field's mean where no target acts.
    mean = hsi.image[:, inside].mean(dim=1)
    free = ~truth.known_bands.any(dim=0)
    assert ((mean / truth.reference)[free] - 1.0).abs().max() < 0.3


def test_demo_model_is_repeatable_and_takes_any_size() -> None:
    image = datasets.load_demo_field().get_image()[None]
    model = datasets.load_demo_model()
    assert not model.training
    with torch.no_grad():
        output = model(image)
        assert output.shape == (1, 4)
        assert torch.equal(output, datasets.load_demo_model()(image))
        assert model(image[:, :, 20:37, 30:71].repeat(2, 1, 1, 1)).shape == (2, 4)
    assert sum(weight.numel() for weight in model.parameters()) * 4 < 1_000_000


def test_demo_model_knows_the_embedded_field() -> None:
    truth = datasets.load_demo_truth()
    with torch.no_grad():
        output = datasets.load_demo_model()(datasets.load_demo_field().get_image()[None])[0]
    span = torch.from_numpy(np.ptp(simulate.TARGET_RANGES, axis=1))
    assert ((output - truth.targets).abs() < 0.1 * span).all()


def test_demo_model_beats_the_trivial_predictor_on_fresh_fields() -> None:
    fresh = simulate.simulate_fields(seed=123456, fields=24, size=40)
    with torch.no_grad():
        output = datasets.load_demo_model()(torch.from_numpy(fresh.data).float()).numpy()
    error = np.sqrt(((output - fresh.targets) ** 2).mean(axis=0))
    trivial = np.sqrt(((simulate.TARGET_RANGES.mean(axis=1) - fresh.targets) ** 2).mean(axis=0))
    assert (error < 0.25 * trivial).all(), dict(zip(simulate.TARGET_NAMES, error / trivial, strict=True))


def test_demo_model_ignores_what_lies_outside_the_field() -> None:
    """A wider margin of masked pixels changes the output by less than the model's error."""
    image = datasets.load_demo_field().get_image()[None]
    model = datasets.load_demo_model()
    span = torch.from_numpy(np.ptp(simulate.TARGET_RANGES, axis=1))
    with torch.no_grad():
        change = model(torch.nn.functional.pad(image, (24, 24, 24, 24))) - model(image)
    assert (change.abs() < 0.05 * span).all()


@pytest.mark.parametrize("baseline", ["zero", "reference"])
def test_gradients_point_at_the_known_bands(baseline: str) -> None:
    """Integrated gradients in plain torch: known bands rank above the others, per target."""
    hsi, truth, model = datasets.load_demo_field(), datasets.load_demo_truth(), datasets.load_demo_model()
    image = hsi.get_image()
    start = torch.zeros_like(image) if baseline == "zero" else truth.reference[:, None, None] * hsi.spatial_binary_mask
    points = torch.linspace(0.05, 0.95, 10)
    gradient = torch.zeros(4, *image.shape)
    for point in points:
        x = (start + point * (image - start))[None].requires_grad_()
        outputs = model(x)[0]
        for target in range(4):
            gradient[target] += torch.autograd.grad(outputs[target], x, retain_graph=True)[0][0] / len(points)
    score = (gradient * (image - start)).sum(dim=(2, 3)).abs()
    for name, values, known in zip(truth.names, score, truth.known_bands, strict=True):
        area = (values[known][:, None] > values[~known]).double().mean()
        share = values[known].sum() / values.sum()
        assert area > 0.9, (name, area)
        assert share > 3.0 * known.double().mean(), (name, share)
