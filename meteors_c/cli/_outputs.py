"""Files that the command line writes: all of them or none, each whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meteors_c._files import replacing
from meteors_c._optional import import_optional
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.cli._errors import UsageError

__all__ = ["Outputs"]

_FORMATS = (".tif", ".tiff", ".nc", ".npz", ".zarr")


class Outputs:
    """The files that a run is asked for; wrong names are refused before anything is computed.

    Parameters
    ----------
    out : list of str
        Maps, whose suffix says the format.
    report : str or None
        The page.
    whole_scene : bool
        Whether the maps come from `explain_scene`.
    several : bool
        Whether there are results of several targets.
    read : sequence of str
        Files that the run reads, which must stay as they are.
    """

    def __init__(
        self, out: list[str], report: str | None, whole_scene: bool, several: bool, read: Sequence[str] = ()
    ) -> None:
        if not out and report is None:
            raise UsageError("nothing would be kept: give --out, --report or both")
        self.maps = [Path(name) for name in out]
        self.report = None if report is None else Path(report)
        self.zarr: Path | None = None
        for path in self.maps:
            suffix = path.suffix.lower()
            if suffix not in _FORMATS:
                raise UsageError(f"--out must end with {', '.join(_FORMATS)}, not {str(path)!r}")
            if suffix == ".npz" and several:
                raise UsageError("--out: .npz holds one result; take .tif or .nc for several targets")
            if suffix == ".npz" and whole_scene:
                raise UsageError("--out: .npz holds results of whole images; with --window take .tif, .nc or .zarr")
            if suffix == ".zarr":
                if not whole_scene:
                    raise UsageError("--out: .zarr is for maps of whole scenes, with --window or --pixels")
                import_optional("zarr", "zarr", "dask", "maps in Zarr folders")
                self.zarr = path
        if self.report is not None:
            if self.report.suffix.lower() not in (".html", ".htm"):
                raise UsageError(f"--report must end with .html, not {str(self.report)!r}")
            import_optional("plotly", "plotly", "report", "report pages")
        written = [*self.maps, *([] if self.report is None else [self.report])]
        for path in written:
            if sum(_same(path, other) for other in written) > 1:
                raise UsageError(f"{str(path)!r} is given twice, but each file is written once")
            for name in read:
                if _same(path, Path(name)):
                    raise UsageError(f"{str(path)!r} is read here and would be lost: give --out another name")
            if not path.absolute().parent.is_dir():
                raise UsageError(f"{str(path)!r} can't be written: there is no folder {str(path.absolute().parent)!r}")
            _try_to_write(path)
            if path.is_dir() and path.suffix.lower() != ".zarr":
                raise UsageError(f"{str(path)!r} can't be written: it is a folder")

    def write_results(self, results: Sequence[HSIAttributes], page: Callable[[Path], None]) -> list[Path]:
        """Write results of one image, and the page by a function of its file; gives the files."""
        return self._write(lambda path: _write_results(results, path), page)

    def write_dataset(self, dataset: Any, page: Callable[[Path], None]) -> list[Path]:
        """Write maps of a whole scene, and the page; a .zarr folder has been written block by block already."""
        return self._write(lambda path: _write_dataset(dataset, path), page)

    def _write(self, write: Callable[[Path], None], page: Callable[[Path], None]) -> list[Path]:
        with contextlib.ExitStack() as stack:  # names change only when all is written
            for path in self.maps:
                if path.suffix.lower() != ".zarr":
                    write(stack.enter_context(replacing(path)))
            if self.report is not None:
                page(stack.enter_context(replacing(self.report)))
        return [*self.maps, *([] if self.report is None else [self.report])]


def _same(path: Path, other: Path) -> bool:
    """Tell whether two names are of one file, which may not be there yet."""
    return os.path.realpath(path) == os.path.realpath(other) or (
        path.exists() and other.exists() and path.samefile(other)
    )


def _try_to_write(path: Path) -> None:
    """Make and remove a folder beside a file, as writing it will, so that this fails before the work and not after."""
    folder = path.absolute().parent
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{str(path)!r} can't be written in the folder {str(folder)!r}: {error.strerror}") from None


def _write_results(results: Sequence[HSIAttributes], path: Path) -> None:
    from meteors_c import io

    suffix = path.suffix.lower()
    if suffix == ".npz":
        results[0].save(path)
        return
    some = results[0] if len(results) == 1 else results
    if suffix == ".nc":
        io.to_netcdf(some, path)
    else:
        io.to_geotiff(some, path)


def _write_dataset(dataset: Any, path: Path) -> None:
    # Read from a folder, the variable of the CRS is one among others.
    dataset = dataset.set_coords([name for name in ("spatial_ref",) if name in dataset.data_vars])
    if path.suffix.lower() == ".nc":
        # Values of single pixels are there for the page.
        for_page = ("pixel_values", "pixel_spectra", "row", "column")
        dataset.drop_vars(for_page, errors="ignore").to_netcdf(path, engine="h5netcdf")
        return
    maps = dataset["map"].copy(deep=False).rename(target="band").rio.write_nodata(np.nan, encoded=True)
    maps.attrs["long_name"] = tuple(f"target {label}" for label in dataset["target"].values.tolist())
    maps.rio.to_raster(path, tags={str(name): str(value) for name, value in dataset.attrs.items()}, compress="deflate")
