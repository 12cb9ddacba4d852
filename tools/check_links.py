"""Look whether links between built pages lead somewhere, anchors included: ``python tools/check_links.py FOLDER``.

Sphinx checks the links that it resolves by itself. Those of cards, figures and raw HTML it takes as they are. Pages of
other sites are left to ``make linkcheck``.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None and name in ("href", "src"):
                self.links.add(value)
            elif value is not None and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)


def broken_links(folder: Path) -> list[str]:
    """Return a line for each link in the pages of a folder that leads nowhere."""
    files = [path for path in sorted(folder.resolve().rglob("*.html")) if "_static" not in path.parts]  # templates
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.is_file():
                found.append(f"{path.relative_to(folder.resolve())}: {link} is not there")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{path.relative_to(folder.resolve())}: {link} has no such anchor")
    return found


def main(folder: str) -> None:
    if not any(Path(folder).rglob("*.html")):
        sys.exit(f"{folder} holds no pages")
    if found := broken_links(Path(folder)):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
