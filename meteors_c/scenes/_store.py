"""Maps in memory, or in a Zarr folder that workers write block by block and a second start goes on with.

Beside the arrays of the result, the folder has a group ``blocks``: of each block the sums, the counts, and, written
last, a mark that it is done. Zarr replaces a chunk's file in one step, so that there is no half of a mark. A folder may
be an address of whatever fsspec knows, such as a bucket of objects, which Zarr writes and reads itself.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import numpy as np

from meteors_c._optional import import_optional
from meteors_c.scenes._explaining import COUNTS
from meteors_c.scenes._grid import Block, Grid
from meteors_c.scenes._job import Outcome

__all__ = ["Memory", "Store", "ZarrStore"]

RUN, GROUP = "meteors_c_run", "blocks"


def _zarr() -> Any:
    return import_optional("zarr", "zarr", "dask", "maps in Zarr folders")


class Store:
    """Where outcomes go; `open` gives the result at the end."""

    done: np.ndarray
    location: str | None = None

    def put(self, block: Block, outcome: Outcome) -> None:
        """Take the outcome of a block."""
        raise NotImplementedError

    def result(self) -> Any:
        """Return the finished dataset."""
        raise NotImplementedError


class Memory(Store):
    """Maps in the memory of this process.

    Parameters
    ----------
    template : xarray.Dataset
        The result without values: coordinates, dims, attributes.
    grid : Grid
        The blocks.
    """

    def __init__(self, template: Any, grid: Grid) -> None:
        self.done = np.zeros(grid.number, dtype=bool)
        for name in ("map", "values"):
            if name in template:
                array = template[name]
                template[name] = array.copy(data=np.full(array.shape, np.nan, array.dtype))
        self.dataset = template
        self.sums = np.zeros(template["mean_spectrum"].shape)
        self.pixels = np.zeros(template["pixels"].shape, dtype=np.int64)
        self.grid, self.next = grid, 0
        self.waiting: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.counts = dict.fromkeys(COUNTS, 0)
        self.shortcut: str | None = None

    def put(self, block: Block, outcome: Outcome) -> None:
        """Take the outcome of a block."""
        self.dataset["map"].values[:, block.rows, block.columns] = outcome.maps
        if outcome.values is not None:
            self.dataset["values"].values[:, :, block.rows, block.columns] = outcome.values
        if outcome.kept is not None and outcome.kept.shape[1]:
            part = slice(block.kept_before, block.kept_before + outcome.kept.shape[1])
            self.dataset["pixel_values"].values[:, part] = outcome.kept[:-1]
            self.dataset["pixel_spectra"].values[part] = outcome.kept[-1]
        self.waiting[block.number] = (outcome.sums, outcome.pixels)
        self._add_in_order()
        self.counts = {name: self.counts[name] + outcome.counts[name] for name in COUNTS}
        self.shortcut = self.shortcut or outcome.shortcut

    def _add_in_order(self) -> None:
        """Add what came so far as far as it is complete: sums round alike, whoever was faster."""
        while self.next < self.grid.number:
            if self.next in self.waiting:
                sums, pixels = self.waiting.pop(self.next)
                self.sums += sums
                self.pixels += pixels
            elif self.grid.block(self.next).pixels:
                return
            self.next += 1

    def result(self) -> Any:
        """Return the dataset."""
        self.dataset["mean_spectrum"].values[...] = mean_of(self.sums, self.pixels)
        self.dataset["pixels"].values[...] = self.pixels
        self.dataset.attrs["report"] = json.dumps(self.counts | {"shortcut": self.shortcut})
        return self.dataset


def mean_of(sums: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the mean spectra of classes, NaN where a class has no pixel."""
    return np.where(pixels[:, None] > 0, sums / np.maximum(pixels, 1)[:, None], np.nan)


class ZarrStore(Store):
    """Maps in a Zarr folder.

    Parameters
    ----------
    location : str
        The folder, or its address.
    grid : Grid
        The blocks.
    """

    def __init__(self, location: str, grid: Grid) -> None:
        self.location = location
        self.grid = grid
        self.done = np.asarray(self._group()[f"{GROUP}/done"][:], dtype=bool)

    def _group(self) -> Any:
        return _zarr().open_group(self.location, mode="r+")

    @classmethod
    def create(cls, path: str, template: Any, grid: Grid, run: dict[str, str]) -> ZarrStore:
        """Make a folder for a run: it is complete when its attributes tell the run, which are written last.

        On disk it has another name before, and appears in one step.
        """
        _zarr()
        remote = _is_address(path)
        unfinished = path if remote else f"{path}.creating-{os.getpid()}"
        _remove(unfinished, remote)
        try:
            chunks = {
                "map": {"target": -1, "y": grid.chunk[0], "x": grid.chunk[1]},
                "values": {"target": 1, "wavelength": -1, "y": grid.chunk[0], "x": grid.chunk[1]},
            }
            encoding = {
                name: {
                    "chunks": tuple(_size(template, dim, of[dim]) for dim in template[name].dims),
                    "fill_value": np.nan,  # what is read where no block is
                    **{key: value for key, value in template[name].encoding.items() if key == "grid_mapping"},
                }
                for name, of in chunks.items()
                if name in template
            }
            lazy = template.copy()
            for name in encoding:
                lazy[name] = _empty(template[name], chunks[name])
            lazy.to_zarr(unfinished, mode="w-", compute=False, encoding=encoding, consolidated=False)
            whole = _zarr().open_group(unfinished, mode="r+")
            group = whole.create_group(GROUP)
            sums, count = template["mean_spectrum"].shape, template["pixels"].shape
            arrays: list[tuple[str, tuple[int, ...], Any]] = [
                ("sums", sums, "float64"),
                ("pixels", count, "int64"),
                ("counts", (len(COUNTS),), "int64"),
            ]
            if len(grid.kept):
                kept = len(template["target"]) + 1, int(np.diff(grid.starts).max()), template.sizes["wavelength"]
                arrays.append(("kept", kept, template["pixel_spectra"].dtype))
            for name, shape, dtype in arrays:
                group.create_array(name, shape=(grid.number, *shape), chunks=(1, *shape), dtype=dtype, fill_value=0)
            group.create_array("done", shape=(grid.number,), chunks=(1,), dtype="uint8", fill_value=0, compressors=None)
            whole.attrs[RUN] = json.dumps(run)
            if not remote:
                os.rename(unfinished, path)
        except BaseException:
            _remove(unfinished, remote)
            raise
        return cls(path, grid)

    @staticmethod
    def run_of(path: str) -> dict[str, str] | None:
        """Return what a folder says of the run that made it; None where there is no folder.

        Raises
        ------
        FileExistsError
            It is something else.
        """
        if not _exists(path):
            return None
        zarr = _zarr()
        try:
            return json.loads(zarr.open_group(path, mode="r").attrs[RUN])
        except Exception as error:
            raise FileExistsError(
                f"out {path!r} is there, and was not made by explain_scene: choose another name"
            ) from error

    def put(self, block: Block, outcome: Outcome) -> None:
        """Write the outcome of a block, and last that it is done. Called by whoever computed it."""
        write(self.location, block, outcome)
        self.done[block.number] = True

    def result(self) -> Any:
        """Write what all blocks tell together, and return the dataset, lazily."""
        group = self._group()
        blocks = group[GROUP]
        if "kept" in blocks:
            self._gather(group)
        sums, pixels = np.zeros(group["mean_spectrum"].shape), np.zeros(group["pixels"].shape, dtype=np.int64)
        counts = np.zeros(len(COUNTS), dtype=np.int64)
        for number in np.flatnonzero(np.asarray(blocks["done"][:])):
            sums += blocks["sums"][int(number)]
            pixels += blocks["pixels"][int(number)]
            counts += blocks["counts"][int(number)]
        group["mean_spectrum"][...] = mean_of(sums, pixels)
        group["pixels"][...] = pixels
        group.attrs["report"] = json.dumps(dict(zip(COUNTS, counts.tolist(), strict=True)))
        xarray = import_optional("xarray", "xarray", "geo", "maps of whole scenes")
        return xarray.open_zarr(self.location, consolidated=False, decode_coords="all")  # with spatial_ref

    def _gather(self, group: Any) -> None:
        """Put the spectra of single pixels, which each block wrote for itself, behind each other."""
        blocks = group[GROUP]
        values, spectra = (np.empty(group[name].shape, group[name].dtype) for name in ("pixel_values", "pixel_spectra"))
        for number in np.flatnonzero(np.diff(self.grid.starts)):
            part = slice(int(self.grid.starts[number]), int(self.grid.starts[number + 1]))
            kept = np.asarray(blocks["kept"][int(number)])[:, : part.stop - part.start]
            values[:, part], spectra[part] = kept[:-1], kept[-1]
        group["pixel_values"][...] = values
        group["pixel_spectra"][...] = spectra


def write(location: str | None, block: Block, outcome: Outcome) -> None:
    """Write the outcome of a block into a folder."""
    group = _zarr().open_group(location, mode="r+")
    group["map"][:, block.rows, block.columns] = outcome.maps
    if outcome.values is not None:
        group["values"][:, :, block.rows, block.columns] = outcome.values
    blocks = group[GROUP]
    if outcome.kept is not None and outcome.kept.shape[1]:
        blocks["kept"][block.number, :, : outcome.kept.shape[1]] = outcome.kept
    blocks["sums"][block.number] = outcome.sums
    blocks["pixels"][block.number] = outcome.pixels
    blocks["counts"][block.number] = np.array([outcome.counts[name] for name in COUNTS])
    blocks["done"][block.number] = 1


def _size(template: Any, dim: str, size: int) -> int:
    return template.sizes[dim] if size == -1 else min(size, template.sizes[dim])


def _empty(array: Any, chunks: dict[str, int]) -> Any:
    """Return an array like another one that takes no memory."""
    dask = import_optional("dask.array", "dask", "dask", "maps in Zarr folders")
    sizes = tuple(chunks[dim] for dim in array.dims)
    data = dask.full(array.shape, np.nan, dtype=array.dtype, chunks=sizes)
    return array.copy(data=data)


# ---------------------------------------------------------------- places


def folder(out: Any, sent: bool = False) -> str:
    """Return where maps are to be written: the path of a folder, or an address.

    Parameters
    ----------
    out : str or path-like
        What a user gave.
    sent : bool
        Whether other processes write there.
    """
    if not isinstance(out, str | os.PathLike):
        raise TypeError(f"out must be the path of a folder or an address, not {type(out).__name__}")
    path = os.fspath(out)
    if isinstance(path, bytes):
        raise TypeError("out must be a string or a path of strings, not bytes")
    if path.startswith("file://"):
        path = url2pathname(path.removeprefix("file://"))
    if _is_address(path):
        _file_system(path)
        if sent and path.startswith("memory:"):
            raise ValueError(f"out {out!r} is in the memory of one process, where workers of a client don't write")
        return path
    parent = Path(path).absolute().parent
    if not parent.is_dir():
        raise FileNotFoundError(f"out {path!r}: there is no folder {str(parent)!r}")
    return str(Path(path).absolute())


def _is_address(path: str) -> bool:
    return "://" in path


def _file_system(address: str) -> tuple[Any, str]:
    """Return what fsspec reads and writes an address by, and the path there."""
    fsspec = import_optional("fsspec", "fsspec", "dask", "maps at addresses")
    try:
        return fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"out {address!r} is an address that fsspec can't open here: {error}") from error


def _exists(path: str) -> bool:
    if not _is_address(path):
        return os.path.exists(path)
    files, inside = _file_system(path)
    files.invalidate_cache()
    return bool(files.exists(inside))


def _remove(path: str, remote: bool) -> None:
    """Remove a folder that is not complete, if there is one."""
    if not remote:
        shutil.rmtree(path, ignore_errors=True)
        return
    files, inside = _file_system(path)
    if files.exists(inside):
        files.rm(inside, recursive=True)
