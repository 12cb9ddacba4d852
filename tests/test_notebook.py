"""Every cell of every notebook runs, and what it shows is true; with few steps and samples, and a shallow network."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import matplotlib.image
import nbformat
import numpy as np
import pytest

from meteors_c import datasets

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SMALL = {
    "DEMO_STEPS": "6",
    "DEMO_SAMPLES": "4",
    "DEMO_TREES": "20",
    "DEMO_PATCHES": "4",
    "DEMO_TEST": "60",
    "DEMO_DRAWS": "3",
    "DEMO_LIME": "150",
    "DEMO_COALITIONS": "100",
    "CLIP_STEPS": "2",
    "CLIP_LAYERS": "1",
    "OMP_NUM_THREADS": "1",
    "no_proxy": "127.0.0.1",
}
OF_NOTEBOOK = {"indian_pines": {"DEMO_STEPS": "50"}}  # sums that are compared with differences of outputs
SETTINGS = ("SCENE", "WEIGHTS", "WEIGHTS_SHA256", "CLIP_WEIGHTS", "CLIP_WEIGHTS_SHA256", "FALLBACK", "METEORS_C")
TARGETS = ("P", "K", "Mg", "pH")
INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # figures in the notebook too, for the index


class Execution(NamedTuple):
    """An executed notebook, all that it printed, the folder of its figures, and the seconds that it took."""

    notebook: nbformat.NotebookNode
    printed: str
    folder: Path
    seconds: float

    def figures(self) -> list[str]:
        """Names of the figures that are no blank pages."""
        pictures = {path.stem: matplotlib.image.imread(path) for path in sorted(self.folder.glob("*.png"))}
        return [name for name, picture in pictures.items() if picture[..., :3].std() > 0.02]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    """tools/run_notebook.py, which imports its neighbours as a script does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        import run_notebook

        yield run_notebook
    for name in ("run_notebook", "notebook_index"):
        sys.modules.pop(name, None)


def execute(tool: ModuleType, name: str, folder: Path, **environment: str) -> Execution:
    """Execute a notebook of the repository; figures go to `folder`. A failing cell fails the test."""
    with pytest.MonkeyPatch.context() as patch:
        for setting in SETTINGS:
            patch.delenv(setting, raising=False)
        for setting, value in (SMALL | INLINE | {"METEORS_C_OUT": str(folder)} | environment).items():
            patch.setenv(setting, value)
        notebook, seconds, failure = tool.execute(ROOT / "notebooks" / f"{name}.ipynb", timeout=300)
    assert failure is None, failure
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    return Execution(notebook, printed, folder, seconds)


@pytest.fixture(scope="module")
def executed(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Execution]:
    """Notebooks of the repository with the small settings, each executed once."""
    done: dict[str, Execution] = {}

    def get(name: str) -> Execution:
        if name not in done:
            done[name] = execute(tool, name, tmp_path_factory.mktemp(name), **OF_NOTEBOOK.get(name, {}))
        return done[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_shows_something(executed: Callable[[str], Execution], name: str) -> None:
    found = executed(name)
    saved = {path.stem for path in found.folder.glob("*.png")}
    assert saved, "a notebook without figures"
    assert found.figures() == sorted(saved)
    assert "warning" not in found.printed.lower()


class Links(HTMLParser):
    """What a page links and shows."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


def test_index_links_a_page_and_a_thumbnail_of_every_notebook(
    executed: Callable[[str], Execution], tool: ModuleType, tmp_path: Path
) -> None:
    runs = {name: executed(name) for name in NAMES}
    cards = [tool.publish(name, found.notebook, found.seconds, None, tmp_path) for name, found in runs.items()]
    links = Links(tool.write_index(tmp_path, cards, tool.ORDER)).found
    assert {f"{name}.html" for name in NAMES} | {f"{name}_thumbnail.png" for name in NAMES} == set(links)
    assert all((tmp_path / link).is_file() for link in links)
    for card in cards:
        assert card.title != card.name, "a notebook begins with a heading"
        assert card.summary.endswith((".", "?")), card.summary
        picture = matplotlib.image.imread(tmp_path / card.thumbnail)
        assert picture[..., :3].std() > 0.02, "a thumbnail that is blank"
    places = [links.index(f"{name}.html") for name in tool.ORDER if name in NAMES]
    assert places == sorted(places)


def test_showcase(executed: Callable[[str], Execution]) -> None:
    found = executed("attr_showcase")
    printed = found.printed
    assert len(found.figures()) == 17

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


def write_scene(folder: Path, rows: slice, columns: slice) -> Path:
    """Write a part of the demo field as an archive of the challenge."""
    field = datasets.load_demo_field()
    crop = (slice(None), rows, columns)
    scene = folder / "0.npz"
    np.savez(scene, data=field.image[crop].numpy().astype(np.int16), mask=~field.binary_mask[crop].numpy())
    (folder / "wavelengths.txt").write_text(" ".join(str(value) for value in field.wavelengths.tolist()))
    return scene


def test_showcase_on_a_scene_without_the_network(tool: ModuleType, tmp_path: Path) -> None:
    """A field that is not square; weights that can't be had, and a fallback."""
    scene = write_scene(tmp_path, slice(20, 80), slice(10, 62))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/weights.npz"
    found = execute(
        tool,
        "attr_showcase",
        tmp_path,
        SCENE=str(scene),
        WEIGHTS=address,
        WEIGHTS_SHA256="0" * 64,
        FALLBACK="1",
        METEORS_C_CACHE=str(tmp_path / "cache"),
    )
    printed = found.printed
    assert len(found.figures()) == 17
    assert f"keeps the weights that it has: could not fetch {address}" in printed
    assert "there is no truth to compare with" in printed
    assert "known bands (nm)" not in printed


def numbers(pattern: str, printed: str) -> list[tuple[str, ...]]:
    """Groups of each line that the pattern matches; there must be some."""
    found = re.findall(pattern, printed, re.M)
    assert found, pattern
    return found


def check_shapley_sums(printed: str, times: int) -> None:
    """The printed sums of Shapley values are the differences of the outputs."""
    sums = numbers(r"sum of the values +(-?[\d.]+), difference of the outputs +(-?[\d.]+)$", printed)
    assert len(sums) == times
    for found, wanted in sums:
        assert float(found) == pytest.approx(float(wanted), rel=1e-4, abs=1e-3)


def test_lime(executed: Callable[[str], Execution]) -> None:
    found = executed("lime")
    printed = found.printed
    assert len(found.figures()) == 10
    # Errors shrink with the samples, and a second run gives the same order more nearly.
    rows = numbers(r"^ +(\d+) +([\d.]+) +\[[\d.]+, [\d.]+\] +([\d.]+) +(-?[\d.]+) +(-?[\d.]+)$", printed)
    assert [int(row[0]) for row in rows] == [10, 100, 150]
    errors, orders, second = ([float(row[column]) for row in rows] for column in (2, 3, 4))
    assert errors == sorted(errors, reverse=True)
    assert orders[0] < orders[-1] == 1.0
    assert second[0] < second[-1]
    assert "it says: 21 coefficients and an intercept are fitted to 10.0 samples" in printed

    ((tolerance, ratio),) = numbers(r"for a tolerance of ([\d.]+),\n +largest error ([\d.]+) of the largest", printed)
    assert float(ratio) <= float(tolerance)
    ((asked, anew),) = numbers(r"^from 100 to 150 samples: (\d+) evaluations instead of (\d+),$", printed)
    assert int(asked) < int(anew)
    assert "the same coefficients as in one run: True" in printed
    # The verdict follows the number in it.
    ((verdict, lowest),) = numbers(
        r"^the order of the superpixels (.*) with the baseline \(.*correlation (.*)\)", printed
    )
    assert verdict == ("changes" if float(lowest) < 0.7 else "hardly changes")

    # Every target's difference lies in its own bands, and the first window of each is among them.
    assert printed.count("its own bands: True") == 4
    assert all(int(hit) > 0 for hit in numbers(r"first, (\d+) of its 10 bands are known to matter$", printed))
    # Much magnesium in one field, little in the other.
    raised = numbers(r"^(first|second) field: Mg .*; its own bands raise it: (True|False)$", printed)
    assert raised == [("first", "True"), ("second", "False")]
    assert printed.count("exact True") == 2
    assert printed.count("rows sum to the Shapley values: True") == 2
    check_shapley_sums(printed, times=3)


def test_lime_on_a_scene(tool: ModuleType, tmp_path: Path) -> None:
    """A field whose sides share no divisor that patches could have."""
    found = execute(tool, "lime", tmp_path, SCENE=str(write_scene(tmp_path, slice(20, 80), slice(10, 63))))
    assert len(found.figures()) == 10
    assert "no patches: no size from 8 to 24 divides both 60 and 53" in found.printed
    assert "there is no truth to compare with" in found.printed
    assert "its own bands" not in found.printed
    assert "known to matter" not in found.printed
    check_shapley_sums(found.printed, times=3)


def test_any_model(executed: Callable[[str], Execution]) -> None:
    printed = executed("any_model").printed
    models = ("random forest", "LightGBM", "ONNX perceptron")
    accuracy = numbers(r"^(random forest|LightGBM|ONNX perceptron) +(?:[\d.]+%\s+){3}([\d.]+)%$", printed)
    assert [name for name, _ in accuracy] == list(models)
    assert all(float(value) > 55 for _, value in accuracy), "well above the 45 % of always naming soybean"
    (difference,) = numbers(r"^largest difference of the ONNX graph from the perceptron: (\S+)$", printed)
    assert float(difference) < 1e-4
    # What occlusion says of squares is what their own pixels do.
    errors = numbers(r"^(random forest|LightGBM|ONNX perceptron) +largest error (\S+),", printed)
    assert [name for name, _ in errors] == list(models)
    assert all(float(error) < 1e-6 for _, error in errors)
    assert printed.count("21 evaluations for 3 classes") == 3
    # Squares add up, so LIME and Shapley values are what occlusion says; groups of bands share the whole difference.
    fits = numbers(r"LIME: R2 ([\d.]+), largest difference from occlusion (\S+); Shapley values: (\S+)$", printed)
    assert len(fits) == 3
    for score, of_lime, of_shapley in fits:
        assert float(score) > 0.9999
        assert max(float(of_lime), float(of_shapley)) < 1e-5
    sums = numbers(r"KernelShap .* (-?[\d.]+) +(-?[\d.]+)$", printed)
    assert len(sums) == 3
    assert all(float(total) == pytest.approx(float(wanted), abs=2e-4) for total, wanted in sums)


def test_segmentation(executed: Callable[[str], Execution]) -> None:
    printed = executed("segmentation").printed
    rows = numbers(r"^([a-z, ]+?) +(-?\d+\.\d+) +(-?\d+\.\d+) +(-?\d+\.\d+)$", printed)
    half = len(rows) // 2
    assert [row[0] for row in rows[:half]] == [row[0] for row in rows[half:]]
    for _, wanted, found, delta in rows:
        assert float(found) - float(wanted) == pytest.approx(float(delta), abs=0.1)
    # Completeness holds for sums without a winner, but for few steps, and is far off where winners change.
    wanted, jumps, smooth = (
        max(abs(float(row[column])) for row in part) for column, part in ((1, rows), (3, rows[:half]), (3, rows[half:]))
    )
    assert smooth < 0.1 * wanted
    assert jumps > 2 * smooth
    assert "21 evaluations for 5 classes" in printed
    # Shapley values sum to the difference of the outputs, whatever the class.
    shares = numbers(r"^[a-z, ]+? +(-?\d\.\d{3}) +(-?[\d.]+) +(-?[\d.]+) +-?[\d.]+ +-?[\d.]+$", printed)
    assert len(shares) == half
    for score, total, wanted in shares:
        assert float(score) > 0.5
        assert float(total) == pytest.approx(float(wanted), abs=0.1)
    assert "32 evaluations for 5 classes, exact: True" in printed


def test_indian_pines(executed: Callable[[str], Execution]) -> None:
    printed = executed("indian_pines").printed
    ((patches, pixels),) = numbers(r"^all pixels +([\d.]+)% +([\d.]+)%$", printed)
    assert float(patches) > 50
    assert float(pixels) > 50
    # Sums of integrated gradients, for few steps.
    for error, largest in numbers(r"largest error of the sum ([\d.]+), of differences up to ([\d.]+)$", printed):
        assert float(error) < 0.15 * float(largest)
    for method in ("LIME", "KernelShap", "ShapleyValueSampling"):
        assert len(numbers(rf"^(.*) {method} +\d+ evaluations, shortcut", printed)) == 2
    # The verdict follows the number beside it.
    for verdict, value in numbers(r"The methods (.*) on the order .*correlation (-?[\d.]+)\)", printed):
        mean = float(value)
        assert verdict == ("agree well" if mean > 0.7 else "agree in part" if mean > 0.3 else "hardly agree")
