"""Give the wheels that are built next the local version of their torch: ``python tools/wheel_version.py 2.13.0``.

``0.2.0`` becomes ``0.2.0+torch2.13``: it goes into ``meteors_c/_version.py``. ``--clear`` takes it away.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

VERSION = Path(__file__).resolve().parents[1] / "meteors_c" / "_version.py"


def with_torch(version: str, torch: str) -> str:
    """The public part of a version, with the minor release of torch, if one is given, as its local part."""
    minor = re.match(r"\d+\.\d+", torch)
    return version.partition("+")[0] + (f"+torch{minor.group()}" if minor else "")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or not (arguments == ["--clear"] or re.match(r"\d+\.\d+", arguments[0])):
        sys.exit(__doc__)

    def replaced(found: re.Match[str]) -> str:
        return with_torch(found.group(), arguments[0])

    text = re.sub(r'(?<=^__version__ = ")[^"]+', replaced, VERSION.read_text(encoding="utf-8"), flags=re.MULTILINE)
    VERSION.write_text(text, encoding="utf-8")
    print(re.search(r'^__version__ = "(.*)"', text, re.M).group(1))


if __name__ == "__main__":
    main(sys.argv[1:])
