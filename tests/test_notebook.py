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
    "DEMO_LIME": "120",
    "DEMO_COALITIONS": "96",
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


def test_showcase_on_a_scene_without_the_network(tool: ModuleType, tmp_path: Path) -> None:
    """A field that is not square; weights that can't be had, and a fallback."""
    field = datasets.load_demo_field()
    crop = (slice(None), slice(20, 80), slice(10, 62))
    scene = tmp_path / "0.npz"
    np.savez(scene, data=field.image[crop].numpy().astype(np.int16), mask=~field.binary_mask[crop].numpy())
    (tmp_path / "wavelengths.txt").write_text(" ".join(str(value) for value in field.wavelengths.tolist()))
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


def test_indian_pines(executed: Callable[[str], Execution]) -> None:
    printed = executed("indian_pines").printed
    ((patches, pixels),) = numbers(r"^all pixels +([\d.]+)% +([\d.]+)%$", printed)
    assert float(patches) > 50
    assert float(pixels) > 50
    # Sums of integrated gradients, for few steps.
    for error, largest in numbers(r"largest error of the sum ([\d.]+), of differences up to ([\d.]+)$", printed):
        assert float(error) < 0.15 * float(largest)
    # The verdict follows the number beside it.
    for verdict, value in numbers(r"The methods (.*) on the order .*correlation (-?[\d.]+)\)", printed):
        mean = float(value)
        assert verdict == ("agree well" if mean > 0.7 else "agree in part" if mean > 0.3 else "hardly agree")


def test_lime(executed: Callable[[str], Execution]) -> None:
    printed = executed("lime").printed
    # More samples, a smaller error; the ranking settles.
    runs = [(int(n), float(error)) for n, error in numbers(r"^ +(\d+) +[\d.]+ +([\d.]+) +-?[\d.]+$", printed)]
    assert [n for n, _ in runs] == [15, 30, 60, 120]
    assert runs[-1][1] < runs[0][1]
    # Both methods find the bands that the simulation acts on, and Shapley values add up.
    assert printed.count("the known bands count most") == 2
    ((_, shapley),) = numbers(r"^sum +(-?[\d.]+) +(-?[\d.]+)$", printed)
    ((difference,),) = [numbers(r"^output less the baseline's: (-?[\d.]+);", printed)]
    assert float(shapley) == pytest.approx(float(difference), abs=0.02)
    # Much magnesium in one field, little in the other.
    assert "first field: True, in the second: False" in printed
