"""The tools of the demo: executing notebooks, and what the stored notebook must be like."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import nbformat
import pytest

ROOT = Path(__file__).parents[2]


def write_notebook(path: Path, *code: str, text: str = "") -> None:
    """Write a notebook: a cell of text if there is any, and cells of code, the last one with the tag ``thumbnail``."""
    cells = [nbformat.v4.new_markdown_cell(text)] if text else []
    cells += [nbformat.v4.new_code_cell(part) for part in code]
    cells[-1].metadata["tags"] = ["thumbnail"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


class Links(HTMLParser):
    """What a page links and shows, and the text of its cards by the page that they link."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.pages: list[str] = []
        self.pictures: list[str] = []
        self.texts: dict[str, str] = {}
        self.marks: dict[str, str] = {}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.pages.append(found["href"] or "")
            self.texts[self.pages[-1]] = ""
            self.marks[self.pages[-1]] = found["class"] or ""
        if tag == "img":
            self.pictures.append(found["src"] or "")

    def handle_data(self, data: str) -> None:
        if self.pages:
            self.texts[self.pages[-1]] += data


@pytest.fixture
def run_notebook(tmp_path: Path):
    """Run the tool in `tmp_path` on small.ipynb, of one cell, or on others; pages go to `tmp_path`/pages."""

    def run(code: str, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
        write_notebook(tmp_path / "small.ipynb", code)
        return subprocess.run(
            [sys.executable, ROOT / "tools" / "run_notebook.py", *(names or ["small.ipynb"])],
            cwd=tmp_path,
            env={**os.environ, "SCENE": "", "METEORS_C_OUT": "pages", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_page_has_output_and_figures_inside(run_notebook, tmp_path: Path) -> None:
    done = run_notebook("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint(6 * 7)")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "pages" / "small.html").read_text()
    assert ">42" in page
    assert "data:image/png;base64" in page


def test_failing_cell_shows_its_traceback_and_fails(run_notebook, tmp_path: Path) -> None:
    done = run_notebook("print(6 * 7)\n1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert ">42" in (tmp_path / "pages" / "small.html").read_text()


def test_relative_scene_is_relative_to_the_caller(run_notebook, tmp_path: Path) -> None:
    code = "import os\nassert os.path.isabs(os.environ['SCENE'])\nprint(open(os.environ['SCENE']).read())"
    (tmp_path / "field.npz").write_text("what the caller has")
    done = run_notebook(code, SCENE="field.npz")
    assert done.returncode == 0, done.stderr
    assert "what the caller has" in (tmp_path / "pages" / "small.html").read_text()


def test_missing_scene_is_named(run_notebook) -> None:
    done = run_notebook("pass", SCENE="none.npz")
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert "none.npz" in done.stderr


PLOT = "import matplotlib.pyplot as plt\nplt.figure(facecolor={colour!r})\nplt.plot([1, 2])\nplt.show()"


def test_index_has_a_card_for_each_notebook(run_notebook, tmp_path: Path) -> None:
    write_notebook(
        tmp_path / "fine.ipynb",
        PLOT.format(colour="red"),
        PLOT.format(colour="blue"),
        text="# Bands & `pixels`\n\nThe *first* [sentence](x) is <short>. The second is not shown.",
    )
    write_notebook(tmp_path / "broken.ipynb", "1 / 0", text="# Broken\n\n## Part\n\nDoes it divide? No.")
    done = run_notebook("print(1)", "broken.ipynb", "fine.ipynb")
    assert done.returncode == 1, "one failed"
    pages = tmp_path / "pages"
    links = Links(pages / "index.html")
    assert links.pages == ["broken.html", "fine.html"]
    assert all((pages / name).is_file() for name in links.pages + links.pictures)
    assert "Bands & pixels" in links.texts["fine.html"]
    assert "The first sentence is <short>." in links.texts["fine.html"]
    assert "second" not in links.texts["fine.html"]
    assert "Does it divide?" in links.texts["broken.html"]
    assert "failed" in links.texts["broken.html"]
    assert "failed" in links.marks["broken.html"]
    assert "failed" not in links.texts["fine.html"] + links.marks["fine.html"]

    # The figure of the cell with the tag, scaled down.
    assert links.pictures == ["fine_thumbnail.png"]
    picture = matplotlib.image.imread(pages / "fine_thumbnail.png")
    assert picture.shape[0] <= 300
    assert picture.shape[1] <= 480
    assert picture[2, 2, 2] > 0.9 > 0.1 > picture[2, 2, 0], "blue"


def test_index_is_offline(run_notebook, tmp_path: Path) -> None:
    run_notebook("print(1)")
    page = (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "://" not in page


def test_index_keeps_notebooks_of_earlier_runs_whose_pages_are_there(run_notebook, tmp_path: Path) -> None:
    for name in "abc":
        write_notebook(tmp_path / f"{name}.ipynb", "print(1)", text=f"# Notebook {name}")
    run_notebook("", "c.ipynb", "a.ipynb")
    (tmp_path / "pages" / "c.html").unlink()
    run_notebook("", "b.ipynb")
    assert Links(tmp_path / "pages" / "index.html").pages == ["a.html", "b.html"]

    # A record that is damaged is written anew.
    (tmp_path / "pages" / "notebooks.json").write_text("[{")
    run_notebook("", "b.ipynb")
    assert Links(tmp_path / "pages" / "index.html").pages == ["b.html"]


def test_missing_notebook_is_named(run_notebook) -> None:
    done = run_notebook("", "nowhere")
    assert done.returncode == 1
    assert "nowhere.ipynb" in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
