"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the name of a file to write; it becomes `path` where the block ends without an error.

    The file is written in a folder of its own beside `path`, because only there can it replace what is there in one
    step; files that a library puts beside it, such as ``.aux.xml``, come along. After an error nothing has changed.

    Parameters
    ----------
    path : str or path-like
        The file. One that is there is replaced.

    Yields
    ------
    pathlib.Path
        Of the same name, in another folder.

    Raises
    ------
    TypeError
        `path` is no path.
    IsADirectoryError
        `path` is a folder.
    FileNotFoundError
        The folder that it would lie in is missing.

    Examples
    --------
    >>> with replacing(Path(tempfile.mkdtemp()) / "numbers.txt") as path:
    ...     _ = path.write_text("1 2 3")
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"path must be a string or path-like, the file to write, not {type(path).__name__}")
    target = Path(os.path.realpath(os.fsdecode(os.fspath(path))))
    if target.is_dir():
        raise IsADirectoryError(f"path must name a file, but {str(target)!r} is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{str(target)!r} can't be written: there is no folder {str(target.parent)!r}")
    folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
    try:
        yield folder / target.name
        # What lies beside the file goes first, so that it is complete as soon as it is there.
        for written in sorted(folder.iterdir(), key=lambda one: one.name == target.name):
            _flush(written)
            os.replace(written, target.parent / written.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Write a file's contents through to the disk, so that its name is not there before them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
