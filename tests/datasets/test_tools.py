"""The tools of the demo: executing notebooks, and what the stored notebook must be like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_notebook(tmp_path: Path):
    """Run the tool in `tmp_path` on a notebook with one cell; the page goes to `tmp_path`/pages."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(notebook, tmp_path / "small.ipynb")
        return subprocess.run(
            [sys.executable, ROOT / "tools" / "run_notebook.py", "small.ipynb"],
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


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
