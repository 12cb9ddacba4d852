"""Execute notebooks, and write each as one HTML page with its figures embedded, and a page that links them.

``python tools/run_notebook.py [notebook ...]``: paths, or names of notebooks of the repository such as
``segmentation``; without any, all of them. ``<name>.html``, a thumbnail ``<name>_thumbnail.png`` and ``index.html`` go
to ``out/`` at the root of the repository, or to the directory in ``METEORS_C_OUT``; the index keeps the notebooks of
earlier runs. ``SCENE``, an archive of the HYPERVIEW challenge, is passed on to the notebooks; relative paths are
relative to the current directory. nbconvert's own command executes them. When a cell fails, its traceback is printed,
the page is still written, the other cells and notebooks run nevertheless, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from notebook_index import Card, write_index, write_thumbnail

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
EXECUTE = "--to=notebook --execute --allow-errors --stdin --stdout --log-level=ERROR".split()
ORDER = ("attr_showcase", "lime", "segmentation", "indian_pines", "any_model")  # of the index; others follow


def notebooks_of_repository() -> list[Path]:
    """All notebooks, in the order of the index."""
    names = {name: place for place, name in enumerate(ORDER)}
    return sorted(NOTEBOOKS.glob("*.ipynb"), key=lambda path: (names.get(path.stem, len(names)), path.stem))


def find(given: str) -> Path:
    """A notebook by its path, or by its name in the repository."""
    path = Path(given)
    return path if path.is_file() or path.suffix else NOTEBOOKS / f"{given}.ipynb"


def execute(path: Path, timeout: int = 3600) -> tuple[nbformat.NotebookNode, float, str | None]:
    """Execute a notebook at the root of the repository: the notebook with its outputs, seconds, and what failed."""
    start = time.perf_counter()
    with path.open("rb") as source:  # from standard input a notebook runs in the current directory, not in its own
        done = subprocess.run(
            [sys.executable, "-m", "nbconvert", *EXECUTE, f"--ExecutePreprocessor.timeout={timeout}"],
            stdin=source, capture_output=True, cwd=ROOT, check=False,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    if done.returncode:  # nothing came back: a cell took too long, or took the kernel with it
        return nbformat.read(path, as_version=4), seconds, done.stderr.decode(errors="replace")
    notebook = nbformat.reads(done.stdout.decode(), as_version=4)
    return notebook, seconds, first_failure(notebook)


def first_failure(notebook: nbformat.NotebookNode) -> str | None:
    """The traceback of the first cell that failed, without colours."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output.traceback))
    return None


def publish(name: str, notebook: nbformat.NotebookNode, seconds: float, failure: str | None, out: Path) -> Card:
    """Write the page and the thumbnail of an executed notebook; gives its card for the index."""
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    (out / f"{name}.html").write_text(html, encoding="utf-8")
    thumbnail = write_thumbnail(notebook, out / f"{name}_thumbnail.png")
    return Card.of(name, notebook, thumbnail, seconds, failed=failure is not None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", nargs="*", help="path or name; all of the repository when left out")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that one cell may take (default: 3600)")
    arguments = parser.parse_args()

    # Notebooks run at the root: paths of the caller are made absolute first.
    out = Path(os.environ.get("METEORS_C_OUT") or ROOT / "out").absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["METEORS_C_OUT"] = str(out)
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # figures go into the page, whatever is set
    if scene := os.environ.get("SCENE"):
        os.environ["SCENE"] = str(Path(scene).expanduser().absolute())
        if not Path(os.environ["SCENE"]).is_file():
            print(f"SCENE: no such file: {os.environ['SCENE']}", file=sys.stderr)
            return 1

    paths = [find(given) for given in arguments.notebook] or notebooks_of_repository()
    if missing := [str(path) for path in paths if not path.is_file()]:
        print(f"no such notebook: {', '.join(missing)}", file=sys.stderr)
        return 1
    cards = []
    for path in paths:
        notebook, seconds, failure = execute(path, arguments.timeout)
        cards.append(publish(path.stem, notebook, seconds, failure, out))
        print(f"{out / path.stem}.html ({seconds:.0f} s)" + (", incomplete" if failure else ""), flush=True)
        if failure:
            print(failure, file=sys.stderr)
        index = write_index(out, cards[-1:], ORDER)  # after each, so that there is one however this ends
    print(index)
    return 1 if any(card.failed for card in cards) else 0


if __name__ == "__main__":
    sys.exit(main())
