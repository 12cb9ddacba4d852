"""Execute a notebook and write it as one HTML page with its figures embedded.

``python tools/run_notebook.py [notebook]``; without one, the attribution showcase. The page goes to ``out/`` at the
root of the repository, or to the directory in ``METEORS_C_OUT``. ``SCENE``, an archive of the HYPERVIEW challenge, is
passed on to the notebook; relative paths are relative to the current directory. When a cell fails, its traceback is
printed, the page is still written up to there, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path, nargs="?", default=ROOT / "notebooks" / "attr_showcase.ipynb")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds that one cell may take (default: 3600)")
    arguments = parser.parse_args()

    # The notebook runs at the root: paths of the caller are made absolute first.
    out = Path(os.environ.get("METEORS_C_OUT") or ROOT / "out").absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["METEORS_C_OUT"] = str(out)
    if scene := os.environ.get("SCENE"):
        os.environ["SCENE"] = str(Path(scene).expanduser().absolute())
        if not Path(os.environ["SCENE"]).is_file():
            print(f"SCENE: no such file: {os.environ['SCENE']}", file=sys.stderr)
            return 1

    notebook = nbformat.read(arguments.notebook, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=arguments.timeout,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(ROOT)}},
    )
    start, failure = time.perf_counter(), None
    try:
        client.execute()
    except CellExecutionError as error:
        failure = str(error)
    page = out / f"{arguments.notebook.stem}.html"
    html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    page.write_text(html, encoding="utf-8")
    print(f"{page} ({time.perf_counter() - start:.0f} s)" + (", incomplete" if failure else ""))
    if failure:
        print(failure, file=sys.stderr)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
