"""Values of the command line: numbers, lists, files of numbers."""

from __future__ import annotations

import ast
import os
from typing import Any

import numpy as np

from meteors_c.cli._errors import UsageError

__all__ = ["baseline", "literal", "numbers", "pixels", "positions", "samples", "sizes", "targets", "window"]


def literal(text: str) -> Any:
    """Return a number, list, True or the like where the text is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def whole(text: str, name: str, wanted: str) -> int:
    """Return a whole number."""
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} must be {wanted}, not {text!r}") from None


def sizes(text: str | None, name: str) -> Any:
    """Return one whole number, or a tuple of several."""
    if text is None:
        return None
    found = tuple(whole(part, name, "whole numbers separated by commas") for part in text.split(","))
    return found[0] if len(found) == 1 else found


def window(text: str | None) -> Any:
    """Return the size of a window around a pixel: an odd number, or two, for rows and columns."""
    found = sizes(text, "--window")
    sides = found if isinstance(found, tuple) else (found,)
    if text is not None and (len(sides) > 2 or any(side < 1 or side % 2 == 0 for side in sides)):
        raise UsageError(
            f"--window must be an odd number, which has a pixel at its centre, or two for rows and columns, not {text}"
        )
    return found


def samples(text: str | None) -> int | str | None:
    """Return a number of samples, or ``"auto"``."""
    return text if text is None or text == "auto" else whole(text, "--samples", "a whole number or auto")


def targets(given: list[str] | None) -> list[Any] | str:
    """Return the outputs to explain: a list of None, numbers and tuples, or ``"all"``."""
    if given is None:
        return [None]
    words = [word.strip() for text in given for word in text.split(",")]
    if words == ["all"]:
        return "all"
    wanted = "a whole number, several separated by commas, or all"
    found: list[Any] = []
    for word in words:
        indices = tuple(whole(part, "--target", wanted) for part in word.split(":"))
        found.append(indices[0] if len(indices) == 1 else indices)
    return found


def positions(text: str | None) -> list[int] | list[str] | None:
    """Return bands: ``0-99,110`` as numbers, anything else as names."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.replace("-", "", 1).isdecimal() for part in parts):
        return parts
    found: list[int] = []
    for part in parts:
        first, dash, last = part.partition("-")
        if not first or (dash and not last):
            raise UsageError(f"--bands: {part} is no range: both ends are needed, such as 0-99")
        if last and int(last) < int(first):
            raise UsageError(f"--bands: {part} runs backwards")
        found += range(int(first), int(last or first) + 1)
    return found


def numbers(text: str | None, name: str) -> np.ndarray | None:
    """Return numbers: of a text file or .npy file of that name, or of a list separated by commas."""
    if text is None:
        return None
    try:
        if os.path.isfile(text):
            if text.endswith(".npy"):
                found = np.load(text, allow_pickle=False)
            else:
                with open(text, encoding="utf-8") as file:
                    found = np.array([float(word) for word in file.read().replace(",", " ").split()])
        else:
            found = np.array([float(word) for word in text.split(",")])
    except ValueError as error:
        raise UsageError(f"{name} must be a list of numbers or a file of them: {error}") from None
    return np.asarray(found, dtype=np.float64)


def baseline(text: str | None) -> Any:
    """Return a baseline: a number, ``"mean"``, or a spectrum."""
    if text is None or text == "mean":
        return text
    found = numbers(text, "--baseline")
    assert found is not None
    return float(found.ravel()[0]) if found.size == 1 else found


def pixels(text: str | None) -> Any:
    """Return places, a mask or labels: of a list, an .npy file, or the first band of a raster, 0 where it has none."""
    if text is None:
        return None
    if not os.path.isfile(text):
        try:
            return [(int(row), int(column)) for row, column in (place.split(",") for place in text.split(";"))]
        except ValueError:
            raise UsageError(f"--pixels must be row,column;row,column;... or a file, not {text!r}") from None
    if text.endswith(".npy"):
        return np.load(text, allow_pickle=False)
    from meteors_c._optional import import_optional

    rasterio = import_optional("rasterio", "rasterio", "geo", "masks in raster files")
    with rasterio.open(text) as file:
        return file.read(1, masked=True).filled(0)
