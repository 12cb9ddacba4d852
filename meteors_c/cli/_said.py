"""What errors and warnings say, in the words of the command line."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from pathlib import Path

__all__ = ["as_options", "in_one_line"]

# Arguments of the library that have an option of the same name, as messages write them: "give wavelengths=".
_ARGUMENT = re.compile(
    r"(?<![\w.-])(wavelengths|wavelength_unit|bad_bands|bands|nodata|variable|window|stride|pixels|target)="
    r"(?!None|[\w'\"]*\()"
)
_SCALE = "scale=True or False", "--scale or --no-scale"
_TORCHSCRIPT = re.compile(
    r"The following operation failed in the TorchScript interpreter\..*(?=\b\w*Error: )", re.DOTALL
)
_TORCHSCRIPT_CUT = re.compile(r"The following operation failed in the TorchScript interpreter\..*", re.DOTALL)
_PACKAGE = str(Path(__file__).resolve().parents[1])


def as_options(text: str) -> str:
    """Return a message of the library with the names of options in place of those of arguments.

    Examples
    --------
    >>> as_options("'scene.tif' says nothing of the wavelengths of its 3 bands: give wavelengths=")
    "'scene.tif' says nothing of the wavelengths of its 3 bands: give --wavelengths"
    """
    text = text.replace(*_SCALE)
    return _ARGUMENT.sub(lambda match: _option(match, text), text)


def _option(match: re.Match[str], text: str) -> str:
    follows = text[match.end() : match.end() + 1]
    return "--" + match.group(1).replace("_", "-") + (" " if follows and follows not in " ,;:.)" else "")


def in_one_line(error: BaseException) -> str:
    r"""Return what an error says, in one line, and where it comes from if that is the user's own code.

    Of errors in TorchScript, whose messages hold the code of the model, that is the last line.

    Examples
    --------
    >>> in_one_line(ValueError("two\nlines"))
    'two lines'
    """
    text = _TORCHSCRIPT.sub("", str(error))
    text = " ".join(_TORCHSCRIPT_CUT.sub("an operation of its TorchScript (--traceback shows where)", text).split())
    if isinstance(error, KeyError | IndexError | AssertionError) or not text:
        text = f"{type(error).__name__}: {text}"
    place = _own_place(error)
    return as_options(text) if place is None else f"{text} ({type(error).__name__} in {place})"


def _own_place(error: BaseException) -> str | None:
    """Return the file and line that raised an error, if neither this package nor an installed one did."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not os.path.isabs(frames[-1].filename):  # compiled, or typed in
        return None
    path = os.path.realpath(frames[-1].filename)
    installed = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    if any(path.startswith(folder + os.sep) for folder in [_PACKAGE, *installed]):
        return None
    return f"{os.path.basename(path)}, line {frames[-1].lineno}"
