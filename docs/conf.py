"""Settings of Sphinx for ``make docs``. Nothing is fetched: no inventories, fonts or scripts of other sites."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402 - beside this file

from meteors_c import __version__  # noqa: E402

project = "meteors_c"
author = "The meteors_c authors"
copyright = "The meteors_c authors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "recipes", "**/*.txt", "costs.md"]  # costs.md is a part of methods.md
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Names in single backquotes are names of the package where there is such a name, and arguments elsewhere.
default_role = "py:obj"
nitpicky = True
linkcheck_ignore = [r"(?!https?:)"]  # tools/check_links.py looks at those between pages, once they are built
highlight_language = "none"  # where a block does not say what it is in
toc_object_entries_show_parents = "hide"
nitpick_ignore_regex = [("py:obj", r"(?!meteors_c\.).*"), ("py:class", r"(?!meteors_c\.).*")]

autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "meteors_c"
html_static_path = ["static"]
html_css_files = ["meteors_c.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 9,
    "navbar_persistent": [],
    "navbar_end": ["search-button", "theme-switcher"],
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {page.stem: [] for page in HERE.glob("*.md")}  # what has no pages below it
html_sidebars["gallery/*"] = []  # code needs the width

sphinx_gallery_conf = {
    "examples_dirs": "recipes",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/\d_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "reset_modules": ("matplotlib", "generate.reset_seeds"),
    "image_scrapers": ("matplotlib",),
    "doc_module": ("meteors_c",),
    "reference_url": {"meteors_c": None},
    "matplotlib_animations": False,
}
warnings.filterwarnings("ignore", category=UserWarning, message="FigureCanvasAgg is non-interactive")


def signature_of_c(app: Any, what: str, name: str, value: Any, *further: Any) -> tuple[str, str] | None:
    """Return the signature of what is written in C: in one line, and without the object itself."""
    if not getattr(value, "__text_signature__", None):
        return None
    return re.sub(r"\(self(, /)?(, )?", "(", str(inspect.signature(value))), ""


def escape_initials(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Keep the initial that a reference begins with from being read as the number of a list."""
    lines[:] = [re.sub(r"^(\s*\.\. \[\d+\] [A-Z])\. ", r"\1\\. ", line) for line in lines]


def setup(app: Any) -> None:
    """Write what is made from the package and from the measurements, before Sphinx reads the sources."""
    app.connect("autodoc-process-signature", signature_of_c, priority=400)  # before numpydoc
    app.connect("autodoc-process-docstring", escape_initials, priority=400)
    generate.write_reference(HERE / "reference")
    generate.write_costs(HERE / "costs.md")
