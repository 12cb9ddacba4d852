"""The documentation: links lead somewhere, code runs, the reference leaves no name out, the table of costs is right."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from benchmarks.models import SCENES
from benchmarks.workloads import WORKLOADS
from tests.test_doctests import CALLABLES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.py"))
MADE = ("gallery", "reference")  # folders of docs that are built


def load(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    """docs/generate.py."""
    module = load(ROOT / "docs" / "generate.py")
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|:link: (\S+)", page.read_text())
    for link in filter(None, (a or b for a, b in links)):
        if "://" in link or link.startswith("mailto:"):
            continue
        if "/" in link and link.split("/")[0] in MADE and page.parent.name == "docs":
            recipe = Path(link).name.removesuffix(".html")
            assert link.startswith("reference/") or recipe == "index" or (ROOT / f"docs/recipes/{recipe}.py").is_file()
            continue
        if page.parent.name == "docs":
            assert not link.startswith(".."), f"{link} is no page of the documentation"
        places = [page.parent / f"{link}{ending}" for ending in ("", ".md", ".rst")]
        assert any(place.exists() for place in places), f"{page.name} links {link}, which is not there"


def test_links_in_built_pages_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "index.html").write_text('<h1 id="top">x</h1><a href="../start.html#here">good</a>')
    (tmp_path / "style.css").touch()
    good = ["#here", "part/", "part/index.html#top", "style.css?v=1", "mailto:a@b", "https://example.org/#x", ""]
    bad = ["#there", "part/index.html#here", "missing.html", "part/missing.png"]
    links = "".join(f'<a href="{link}">x</a>' for link in good + bad[:3]) + f'<img src="{bad[3]}">'
    (tmp_path / "start.html").write_text(f'<p id="here">{links}')
    checker = load(ROOT / "tools" / "check_links.py")
    found = checker.broken_links(tmp_path)
    assert [line.split()[1] for line in found] == sorted(bad)
    assert all(line.startswith("start.html: ") for line in found)
    with pytest.raises(SystemExit, match=r"missing\.html"):
        checker.main(tmp_path)
    for link in bad:
        page = tmp_path / "start.html"
        page.write_text(page.read_text().replace(f'"{link}"', '"#here"'))
    checker.main(tmp_path)


def code_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page are one session, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    blocks = code_of(page)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile("import meteors_c\n" + block, page, "exec"), names)


def test_every_public_name_has_a_page(generate: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    generate.write_reference(folder)
    pages = {page.stem: page.read_text() for page in folder.glob("*.rst")}
    functions_and_classes = [path for path in CALLABLES if path.rpartition(".")[0] in sys.modules]
    assert functions_and_classes
    assert not [path for path in functions_and_classes if path not in pages and "._" not in path]
    # Methods are on the page of their class.
    assert ":inherited-members:" in pages["meteors_c.attr.KernelShap"]
    listed = (folder / "modules.txt").read_text()
    assert "reference/meteors_c.attr\n" in listed


def test_costs_are_counted(generate: ModuleType) -> None:
    scene = SCENES["CNN 224"].tiny()
    counts = {name: generate.counted(WORKLOADS[name], scene) for name in ("Saliency", "IntegratedGradients, 50 steps")}
    assert counts == {"Saliency": 1, "IntegratedGradients, 50 steps": 50}
    bands, window, stride = 150, 8, 6
    windows = bands // stride + ((bands - window) % stride != 0)
    assert generate.counted(WORKLOADS["Occlusion, bands 8/6"], scene) == windows


def test_measured_times_are_found(generate: ModuleType) -> None:
    head = "| | path | ours s | ratio |\n|---|--:|--:|--:|\n"
    page = f"## One\n\n{head}| CNN | plain | 3.000 | 2.0 |\n| CNN | shortcut | 1.000 | 6.0 |\n"
    assert generate.measured(page, "One") == {
        "CNN": {"scene": "CNN", "path": "shortcut", "ours s": "1.000", "ratio": "6.0"}
    }
    assert generate.measured(page, "Two") == {}
    results = generate.RESULTS.read_text()
    found = [name for name in WORKLOADS if "CNN 224" in generate.measured(results, name)]
    assert len(found) >= 8, "the table of measurements has another form"
    assert {WORKLOADS[name].method for name in WORKLOADS} <= set(generate.GROWTH)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipes_run_and_draw(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
        runpy.run_path(str(recipe), run_name="recipe")
    try:
        assert plt.get_fignums()
        for number in plt.get_fignums():
            figure = plt.figure(number)
            figure.canvas.draw()
            assert np.asarray(figure.canvas.buffer_rgba())[..., :3].std() > 5, "a figure that is blank"
    finally:
        plt.close("all")


def test_nothing_is_fetched() -> None:
    """Sources of ours name no fonts, styles or scripts of other sites."""
    for source in [*(ROOT / "docs" / "static").iterdir(), ROOT / "docs" / "conf.py"]:
        text = source.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, source.name
