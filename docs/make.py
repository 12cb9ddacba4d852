"""Make the reference pages in docs/_build: ``python docs/make.py``."""

from __future__ import annotations

from pathlib import Path

import pdoc

import meteors_c

OUT = Path(__file__).with_name("_build")


def main() -> None:
    """Write one page per public module."""
    vars(meteors_c)["HSI"] = meteors_c.HSI  # it loads when first asked for, and pdoc only looks
    pdoc.render.configure(docformat="numpy", footer_text=f"meteors_c {meteors_c.__version__}", search=True)
    pdoc.pdoc("meteors_c", "meteors_c.hsi", output_directory=OUT)
    print(f"wrote {OUT / 'index.html'}")


if __name__ == "__main__":
    main()
