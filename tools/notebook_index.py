"""The page that links executed notebooks: a card for each, with its title, first sentence, thumbnail and time."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

THUMBNAIL = (480, 300)  # largest width and height in pixels
RECORDS = "notebooks.json"  # what the index knows of earlier runs

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>meteors_c: notebooks</title>
<style>
  :root {{ color-scheme: light dark; --page: #f5f6f4; --card: #ffffff; --text: #1d2420; --faint: #5e6a63;
    --line: #dfe4e0; --mark: #2c6e49; --bad: #b3261e; }}
  @media (prefers-color-scheme: dark) {{ :root {{ --page: #161a18; --card: #1f2522; --text: #e7ece9; --faint: #9aa79f;
    --line: #323b36; --mark: #7cc79a; --bad: #f2857d; }} }}
  * {{ box-sizing: border-box; }}
  body {{ margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }}
  main {{ max-width: 72rem; margin: 0 auto; padding: 3rem 1.5rem; }}
  h1 {{ margin: 0 0 .25rem; font-size: 1.9rem; }}
  header p {{ margin: 0 0 2rem; color: var(--faint); }}
  .cards {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem; }}
  .card {{ display: flex; flex-direction: column; overflow: hidden; background: var(--card); color: inherit;
    border: 1px solid var(--line); border-radius: .6rem; text-decoration: none; }}
  .card:hover, .card:focus-visible {{ border-color: var(--mark); box-shadow: 0 .25rem 1rem rgb(0 0 0 / .12); }}
  .picture {{ height: 12rem; background: #ffffff; border-bottom: 1px solid var(--line); }}
  .picture img {{ display: block; width: 100%; height: 100%; object-fit: contain; padding: .5rem; }}
  .text {{ display: flex; flex-direction: column; flex: 1; padding: 1rem 1.25rem; }}
  h2 {{ margin: 0 0 .5rem; font-size: 1.1rem; line-height: 1.3; }}
  .text p {{ margin: 0 0 .75rem; }}
  .foot {{ margin-top: auto; color: var(--faint); font-size: .875rem; }}
  .failed {{ border-color: var(--bad); }}
  .failed .state {{ color: var(--bad); font-weight: 600; }}
</style>
</head>
<body>
<main>
<header>
<h1>meteors_c</h1>
<p>Attribution methods for hyperspectral models: the notebooks, as they ran here.</p>
</header>
<div class="cards">
{cards}
</div>
</main>
</body>
</html>
"""

CARD = """<a class="card{mark}" href="{page}">
  <div class="picture">{picture}</div>
  <div class="text">
    <h2>{title}</h2>
    <p>{summary}</p>
    <p class="foot"><span class="state">{state}</span> in {time}</p>
  </div>
</a>"""


@dataclass(frozen=True)
class Card:
    """What the index says of a notebook.

    Attributes
    ----------
    name : str
        Its file's name without the suffix; ``<name>.html`` is its page.
    title, summary : str
        Its first heading, and the first sentence after it.
    thumbnail : str
        The file of its thumbnail; empty where it has no figure.
    seconds : float
        How long it ran.
    failed : bool
        Whether a cell failed.
    """

    name: str
    title: str
    summary: str
    thumbnail: str
    seconds: float
    failed: bool

    @classmethod
    def of(cls, name: str, notebook: NotebookNode, thumbnail: Path | None, seconds: float, failed: bool) -> Card:
        """Read title and summary from the notebook."""
        title, summary = heading_and_summary(notebook)
        return cls(name, title or name, summary, thumbnail.name if thumbnail else "", seconds, failed)

    def html(self) -> str:
        """The card as HTML."""
        minutes, seconds = divmod(round(self.seconds), 60)
        picture = f'<img src="{escape(self.thumbnail)}" alt="">' if self.thumbnail else ""
        return CARD.format(
            mark=" failed" if self.failed else "",
            page=escape(f"{self.name}.html"),
            picture=picture,
            title=escape(self.title),
            summary=escape(self.summary),
            state="failed" if self.failed else "ran",
            time=f"{minutes} min {seconds} s" if minutes else f"{seconds} s",
        )


def heading_and_summary(notebook: NotebookNode) -> tuple[str, str]:
    """The first heading of a notebook and the first sentence of the first paragraph after it; empty where none is."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    heading = next((place for place, part in enumerate(paragraphs) if part.startswith("#")), None)
    title = "" if heading is None else paragraphs[heading].lstrip("# ")
    rest = paragraphs if heading is None else paragraphs[heading + 1 :]
    paragraph = next((part for part in rest if not part.startswith("#")), "")
    sentence = re.split(r"(?<=[.?!])\s", " ".join(paragraph.split()), maxsplit=1)[0]
    return _plain(title), _plain(sentence)


def _plain(markdown: str) -> str:
    """Text without the marks of emphasis, code and links."""
    return re.sub(r"[`*]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown))


def write_thumbnail(notebook: NotebookNode, path: Path) -> Path | None:
    """Write a small copy of a figure: the first of the cell with the tag ``thumbnail``, else of the notebook.

    Returns the path, or None, and removes what lies there, where the notebook has no figure.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    chosen = [cell for cell in code if "thumbnail" in cell.metadata.get("tags", [])]
    for cell in chosen + code:
        for output in cell.outputs:
            if data := output.get("data", {}).get("image/png"):
                picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
                picture.thumbnail(THUMBNAIL)
                picture.save(path)
                return path
    path.unlink(missing_ok=True)
    return None


def write_index(out: Path, cards: Sequence[Card], order: Sequence[str] = ()) -> Path:
    """Write ``index.html`` with these cards and those of earlier runs whose pages are still there.

    Parameters
    ----------
    out : path
        The folder of the pages.
    cards : sequence of Card
        Notebooks that ran now.
    order : sequence of str
        Names in the order that they are shown in; others follow, by name.
    """
    records = out / RECORDS
    known = {card.name: card for card in _read(records)} | {card.name: card for card in cards}
    shown = [card for card in known.values() if (out / f"{card.name}.html").is_file()]
    place = {name: number for number, name in enumerate(order)}
    shown.sort(key=lambda card: (place.get(card.name, len(place)), card.name))
    records.write_text(json.dumps([asdict(card) for card in shown], indent=2), encoding="utf-8")
    index = out / "index.html"
    index.write_text(PAGE.format(cards="\n".join(card.html() for card in shown)), encoding="utf-8")
    return index


def _read(records: Path) -> list[Card]:
    """Cards of earlier runs; none where the file is missing or of another form."""
    try:
        return [Card(**record) for record in json.loads(records.read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError):
        return []
