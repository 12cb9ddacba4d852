"""Pages of whole scenes: what they hold is bounded, and is what maps and scene hold."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray

from meteors_c import HSI, attr, pages
from meteors_c.exceptions import ShapeMismatchError
from tests.pages.test_pages import floats, read, same
from tests.scenes.models import WAVELENGTHS, field, patch_model, scene

ROOT = Path(__file__).resolve().parents[2]
EXPLAINER = attr.Saliency(patch_model(3))


def numbers(values: Any) -> np.ndarray:
    """What Plotly made of an array."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
    return np.asarray(values)


def explained(array: Any, **arguments: Any) -> xarray.Dataset:
    return attr.explain_scene(EXPLAINER, array, **{"window": 3, "target": [0, 2], "values": 40, **arguments})


def test_the_numbers_are_those_of_the_maps(tmp_path: Path) -> None:
    array, maps = scene(), explained(scene())
    pages.write_maps(tmp_path / "page.html", array, maps)
    text, elements, data = read(tmp_path / "page.html")
    assert elements.headings == ["2 attributions", "Saliency, target 0", "Saliency, target 2"]
    assert data["panels"][0]["image"] == data["panels"][1]["image"]
    for number, panel in enumerate(data["panels"]):
        same(floats(data["arrays"][panel["heat"]]), maps["map"][number].astype(np.float32))
        places = np.array(panel["places"])
        assert len(places) == 40
        rows, columns = places.T
        image, attributions = (floats(data["arrays"][panel[name]])[:, :, 0] for name in ("image", "attributions"))
        same(image, array.values[:, rows, columns].astype(np.float32))
        same(attributions, maps["pixel_values"][number].values.T.astype(np.float32))
        sums = np.abs(attributions.sum(0))
        assert panel["start"] == places[sums.argmax()].tolist()
        (bars,) = panel["figures"]["bands"]["data"]
        np.testing.assert_allclose(numbers(bars["y"]), maps["mean_spectrum"][number, 0], rtol=1e-12)
    assert f"40 of the {23 * 19} explained pixels" in text
    assert elements.rows["explained pixels"] == "437 of 23 x 19"
    assert "windows of 3 x 3" in elements.rows["explained by"]


def test_classes_have_lines(tmp_path: Path) -> None:
    labels = np.random.RandomState(1).randint(0, 12, (23, 19))
    labels[:10] = 5
    maps = explained(scene(), pixels=labels, target=1)
    pages.write_maps(tmp_path / "page.html", scene(), maps, titles="Fields")
    text, elements, data = read(tmp_path / "page.html")
    (panel,) = data["panels"]
    bars, *lines = panel["figures"]["bands"]["data"]
    assert len(lines) == 8
    assert "3 more" in text
    assert {"class 5"} <= {line["name"] for line in lines}
    every = explained(scene(), pixels=labels > 0, target=1)
    np.testing.assert_allclose(numbers(bars["y"]), every["mean_spectrum"][0, 0], rtol=1e-12)
    assert elements.headings[0] == "Fields"
    assert all(labels[row, column] > 0 for row, column in panel["places"])


@pytest.mark.parametrize(("stride", "add"), [(1, 0.0), (3, 0.0), (1, 1000.0)])  # in the infrared, colours are false
def test_pictures_are_those_of_the_scene(stride: int, add: float, tmp_path: Path) -> None:
    """Lazily, in any form, and with pixels that are missing: the picture that the image has by itself."""
    values = np.abs(field(20, 30)).astype(np.float32)
    values[:, 3, 4] = np.nan
    array = scene(values).drop_vars("spatial_ref")
    array = array.assign_coords(wavelength=("wavelength", array["wavelength"].values + add, {"units": "nm"}))
    image = HSI.from_xarray(array[:, (stride - 1) // 2 :: stride, (stride - 1) // 2 :: stride])
    result = attr.HSIAttributes(hsi=image, attributes=image.image * 0 + 1.0, attribution_method="Saliency")
    pages.write(tmp_path / "result.html", result)
    wanted = read(tmp_path / "result.html")[2]["panels"][0]["figures"]["map"]["layout"]["images"][0]["source"]
    lazy, turned = array.chunk({"y": 7, "wavelength": 1}), array.transpose("x", "wavelength", "y")
    forms = {"plain": array, "lazy": lazy, "turned": turned}
    for name, form in forms.items():
        maps = explained(form, stride=stride, target=0)
        pages.write_maps(tmp_path / f"{name}.html", form, maps)
        text, _, data = read(tmp_path / f"{name}.html")
        (panel,) = data["panels"]
        assert panel["figures"]["map"]["layout"]["images"][0]["source"] == wanted, name
        assert panel["shape"] == list(image.image.shape[1:])
        assert [3, 4] not in panel["places"] or stride > 1
        assert ("False colours" in text) == (add > 0)


def test_images_and_maps_without_pixels(tmp_path: Path) -> None:
    hsi = HSI(
        image=field().astype(np.float32), wavelengths=WAVELENGTHS, binary_mask=torch.ones(1, 23, 19, dtype=torch.bool)
    )
    maps = explained(hsi, values=False)
    pages.write_maps(tmp_path / "page.html", hsi, maps, share_scale=True, made={"scene": "<b>", "model": "net"})
    text, elements, data = read(tmp_path / "page.html")
    assert data["panels"][0]["image"] is None
    assert 'id="pixel-0"' not in text
    assert "b" not in elements.tags
    assert elements.rows["model"] == "net"


@pytest.mark.parametrize(
    ("maps", "options", "error", "word"),
    [
        (5, {}, TypeError, "maps"),
        (xarray.Dataset({"map": (("y",), [0.0])}), {}, TypeError, "maps"),
        (None, {"titles": ["one"]}, ValueError, "titles"),
        (None, {"max_bytes": 0}, ValueError, "max_bytes"),
        (None, {"scene": scene(field(20, 19))}, ShapeMismatchError, "23 x 19"),
    ],
)
def test_wrong_arguments(maps: Any, options: dict[str, Any], error: type[Exception], word: str, tmp_path: Path) -> None:
    array = options.pop("scene", scene())
    with pytest.raises(error, match=word):
        pages.write_maps(tmp_path / "page.html", array, explained(scene()) if maps is None else maps, **options)
    assert not list(tmp_path.iterdir())


def test_max_bytes_bounds_the_pixels(tmp_path: Path) -> None:
    pages.write_maps(tmp_path / "page.html", scene(), explained(scene()), max_bytes=4 * 4 * 3 * 10)
    _, _, data = read(tmp_path / "page.html")
    assert len(data["panels"][0]["places"]) == 10


def test_large_maps_are_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from meteors_c.pages import _scenes, _write

    monkeypatch.setattr(_write, "MOST_MAP_PIXELS", 80)
    monkeypatch.setattr(_scenes, "STRIP_BYTES", 2000)  # several strips
    maps = explained(scene(), target=0)
    pages.write_maps(tmp_path / "page.html", scene(), maps)
    text, _, data = read(tmp_path / "page.html")
    (panel,) = data["panels"]
    values = maps["map"][0].values
    wanted = [[values[r : r + 3, c : c + 3].mean() for c in range(0, 19, 3)] for r in range(0, 23, 3)]
    np.testing.assert_allclose(floats(data["arrays"][panel["heat"]]), wanted, rtol=1e-4)
    assert "averaged over 3 x 3 pixels" in text


MEMORY = """
import sys
import dask.array as da, numpy as np, torch, xarray
from torch import nn
from benchmarks.memory import peak_bytes
from meteors_c import cli
from meteors_c.cli import _explain, _models
from meteors_c.models import ExplainableModel
from meteors_c.pages import _write

_write.MOST_MAP_PIXELS = 50_000
side, out = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
values = da.random.default_rng(0).random((50, side, side), chunks=(50, 128, 128), dtype="float32")
coords = {"wavelength": ("wavelength", 400.0 + 10 * np.arange(50), {"units": "nm"}), "y": np.arange(side) * 1.0,
          "x": np.arange(side) * 1.0}
scene = xarray.DataArray(values, dims=("wavelength", "y", "x"), coords=coords)
net = nn.Sequential(nn.Conv2d(50, 2, 1), nn.Tanh()).eval()
_explain.open_from = lambda arguments: scene
_explain.load = lambda *arguments: _models.Loaded(
    ExplainableModel(net, "segmentation", lambda maps: maps.sum(dim=(2, 3))), "a network")
np.save(out + ".npy", np.indices((side, side)).sum(0) % 2 == 0)
status = cli.main(["explain", "scene", "--model", "net", "--method", "ixg", "--target", "0,1", "--pixels", out + ".npy",
                   "--report", out + ".html", "--no-progress"])
assert status == 0
print(peak_bytes())
"""


def test_memory_and_pages_do_not_grow_with_the_scene(tmp_path: Path) -> None:
    """Four times the pixels: of the scene 13 and 52 MB, of all values of two targets 26 and 105 MB.

    With fewer pixels in the page's map than it may have, so that both scenes fill it.
    """
    peaks, sizes = [], []
    for side in (256, 512):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(side), str(tmp_path / str(side))], capture_output=True, text=True,
            check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
        sizes.append((tmp_path / f"{side}.html").stat().st_size)
    assert peaks[1] - peaks[0] < 40_000_000
    assert abs(sizes[1] - sizes[0]) < 1_000_000
