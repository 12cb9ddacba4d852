"""Every cell of the showcase runs, and what it shows is true; with few steps and samples, and a shallow large model."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from meteors_c import datasets

ROOT = Path(__file__).parents[1]
SMALL = {
    "DEMO_STEPS": "6",
    "DEMO_SAMPLES": "4",
    "CLIP_STEPS": "2",
    "CLIP_LAYERS": "1",
    "OMP_NUM_THREADS": "1",
    "no_proxy": "127.0.0.1",
}
SETTINGS = ("SCENE", "WEIGHTS", "WEIGHTS_SHA256", "CLIP_WEIGHTS", "CLIP_WEIGHTS_SHA256", "FALLBACK", "METEORS_C")
TARGETS = ("P", "K", "Mg", "pH")

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Execute the notebook and give all that it printed; figures go to `tmp_path`. A failing cell raises."""

    def execute(**environment: str) -> str:
        for name in SETTINGS:
            monkeypatch.delenv(name, raising=False)
        for name, value in (SMALL | {"METEORS_C_OUT": str(tmp_path)} | environment).items():
            monkeypatch.setenv(name, value)
        notebook = nbformat.read(ROOT / "notebooks" / "attr_showcase.ipynb", as_version=4)
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(ROOT)}},
        )
        client.execute()
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        outputs = [output for cell in code for output in cell.outputs]
        return "".join(output.text for output in outputs if output.output_type == "stream")

    return execute


def figures(folder: Path) -> list[str]:
    """Names of the figures that are no blank pages."""
    import matplotlib.image

    pictures = {path.stem: matplotlib.image.imread(path) for path in sorted(folder.glob("*.png"))}
    return [name for name, picture in pictures.items() if picture[..., :3].std() > 0.02]


def test_showcase(run: Run, tmp_path: Path) -> None:
    printed = run()
    assert len(figures(tmp_path)) == 17
    assert "warning" not in printed.lower()

    # The attributions of integrated gradients add up to the difference of the outputs.
    sums = re.findall(r"^(P|K|Mg|pH) +(-?[\d.]+) +(-?[\d.]+) +(-?[\d.e+-]+)$", printed, re.M)
    assert [name for name, *_ in sums] == list(TARGETS)
    for name, wanted, found, delta in sums:
        assert float(found) == pytest.approx(float(wanted), rel=0.02), name
        assert abs(float(delta)) < 0.02 * abs(float(wanted)), name

    assert "the same attributions: True" in printed
    assert "4 targets, 16 evaluations, the same results: True" in printed
    stopped = re.search(r"^(\d+) of at most 80 samples, largest error ([\d.]+)%", printed, re.M)
    assert stopped is not None
    assert int(stopped[1]) == 80 or float(stopped[2]) <= 3.0

    # Every method ranks the known bands of every target above the others, and gives them more than their part.
    table = re.findall(r"^(P|K|Mg|pH) +\d+ to \d+ +([\d.]+)% +(\D+?) +([\d.]+)% +([\d.]+)$", printed, re.M)
    assert len(table) == 4 * 5
    for name, part, method, share, area in table:
        assert float(area) > 0.85, (name, method)
        assert float(share) > 3.0 * float(part), (name, method)

    # Boxes that lie outside the field are known without the model.
    report = re.search(r"^Occlusion of 1 image.*\n  evaluations +\d+, (\d+) saved", printed, re.M)
    assert report is not None
    assert int(report[1]) > 0


def test_showcase_on_a_scene_without_the_network(run: Run, tmp_path: Path) -> None:
    """A field that is not square; weights that can't be had, and a fallback."""
    field = datasets.load_demo_field()
    crop = (slice(None), slice(20, 80), slice(10, 62))
    scene = tmp_path / "0.npz"
    np.savez(scene, data=field.image[crop].numpy().astype(np.int16), mask=~field.binary_mask[crop].numpy())
    (tmp_path / "wavelengths.txt").write_text(" ".join(str(value) for value in field.wavelengths.tolist()))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/weights.npz"
    printed = run(
        SCENE=str(scene),
        WEIGHTS=address,
        WEIGHTS_SHA256="0" * 64,
        FALLBACK="1",
        METEORS_C_CACHE=str(tmp_path / "cache"),
    )
    assert len(figures(tmp_path)) == 17
    assert f"keeps the weights that it has: could not fetch {address}" in printed
    assert "there is no truth to compare with" in printed
    assert "known bands (nm)" not in printed
