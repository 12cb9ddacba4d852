"""Which pixels of a scene are explained, and the blocks that they are explained in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meteors_c.exceptions import ShapeMismatchError
from meteors_c.io._labelled import spatial_dimensions

__all__ = ["Block", "Grid", "grid_of"]


@dataclass(frozen=True, eq=False)
class Block:
    """A part of the map that is computed by one task, and written as one piece.

    Attributes
    ----------
    number : int
        Which one it is.
    rows, columns : slice
        Its part of the map.
    picked : tuple of numpy.ndarray or None
        Rows and columns in the block, and positions of their classes, of the pixels to explain; None for all of one
        class.
    kept : tuple of numpy.ndarray
        Rows and columns in the block of the pixels whose spectra are results.
    kept_before : int
        How many such pixels the blocks before have.
    """

    number: int
    rows: slice
    columns: slice
    picked: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    kept: tuple[np.ndarray, np.ndarray]
    kept_before: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def pixels(self) -> int:
        """How many pixels are to be explained."""
        return math.prod(self.shape) if self.picked is None else len(self.picked[0])

    def pixels_of(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows and columns in the block and positions of classes, int64, of the pixels to explain."""
        if self.picked is not None:
            rows, columns, classes = self.picked
            return rows, columns, classes
        rows, columns = np.divmod(np.arange(self.pixels), self.shape[1])
        return rows, columns, np.zeros(self.pixels, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Grid:
    """The pixels of a map: every `stride`-th of the scene from `start` on.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the map.
    chunk : tuple of int
        Those of a block; the last ones may be smaller.
    stride : int
        Pixels of the scene from one of the map to the next.
    labels : numpy.ndarray or None
        Of the map's shape, the class of each pixel, 0 or less where it is not explained. None: all, of class 1.
    classes : numpy.ndarray
        The classes that there are, ascending.
    kept : numpy.ndarray
        (pixels, 2), rows and columns of the pixels whose spectra are results, in the order of the blocks.
    starts : numpy.ndarray
        Of each block, and behind the last, how many of these the blocks before have.
    """

    shape: tuple[int, int]
    chunk: tuple[int, int]
    stride: int
    labels: np.ndarray | None
    classes: np.ndarray
    kept: np.ndarray
    starts: np.ndarray

    @property
    def start(self) -> int:
        """The first row and column of the scene that is in the map: the middle of as many pixels as the stride has."""
        return (self.stride - 1) // 2

    @property
    def counts(self) -> tuple[int, int]:
        """How many blocks there are along rows and columns."""
        return math.ceil(self.shape[0] / self.chunk[0]), math.ceil(self.shape[1] / self.chunk[1])

    @property
    def number(self) -> int:
        """How many blocks there are."""
        return math.prod(self.counts)

    @property
    def pixels(self) -> int:
        """How many pixels are explained."""
        return math.prod(self.shape) if self.labels is None else int(np.count_nonzero(self.labels > 0))

    def of_scene(self, part: slice) -> tuple[int, int]:
        """Return the first and the last row or column of the scene that a part of the map shows."""
        return self.start + part.start * self.stride, self.start + (part.stop - 1) * self.stride

    def block(self, number: int) -> Block:
        """Return a block by its number, row by row."""
        row, column = divmod(number, self.counts[1])
        (height, width), (rows, columns) = self.chunk, self.shape
        of_rows = slice(row * height, min((row + 1) * height, rows))
        of_columns = slice(column * width, min((column + 1) * width, columns))
        first, last = int(self.starts[number]), int(self.starts[number + 1])
        kept = self.kept[first:last, 0] - of_rows.start, self.kept[first:last, 1] - of_columns.start
        picked = None
        if self.labels is not None:
            labels = self.labels[of_rows, of_columns]
            inside = np.nonzero(labels > 0)
            picked = inside[0], inside[1], np.searchsorted(self.classes, labels[inside])
        return Block(number, of_rows, of_columns, picked, kept, first)

    def without_pixels(self) -> Grid:
        """Return the same grid without what blocks bring themselves."""
        return replace(self, labels=None, kept=self.kept[:0], starts=self.starts[:0])

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks that have pixels to explain."""
        for number in range(self.number):
            block = self.block(number)
            if block.pixels:
                yield block


def grid_of(scene_shape: tuple[int, int], chunk: tuple[int, int], stride: int, pixels: Any, keep: int = 0) -> Grid:
    """Return the grid of a map.

    Parameters
    ----------
    scene_shape : tuple of int
        Rows and columns of the scene.
    chunk : tuple of int
        Rows and columns of a block.
    stride : int
        Pixels of the scene from one of the map to the next.
    pixels : None, array, DataArray or list of (row, column)
        A mask (bool), labels (integers), or places.
    keep : int
        Of how many of them the spectra are results, at most: drawn evenly among them.

    Raises
    ------
    TypeError, ValueError, IndexError, ShapeMismatchError
        For pixels of another type or shape, outside the scene, or if there are none.
    """
    start = (stride - 1) // 2
    height, width = (max(0, math.ceil((size - start) / stride)) for size in scene_shape)
    shape = (height, width)
    if 0 in shape:
        raise ValueError(f"stride {stride} leaves no pixel of a scene of {scene_shape[0]} x {scene_shape[1]}")
    labels = None if pixels is None else _labels(pixels, scene_shape, stride)
    if labels is not None and stride > 1:
        labels = labels[start::stride, start::stride]
    classes = np.ones(1, dtype=np.int64)
    if labels is not None:
        classes = np.unique(labels[labels > 0]).astype(np.int64)
        if not len(classes):
            raise ValueError("pixels has none: it is False, or 0 or less, everywhere")
    chunk = min(chunk[0], shape[0]), min(chunk[1], shape[1])
    kept, starts = _kept(shape, chunk, labels, keep)
    return Grid(shape, chunk, stride, labels, classes, kept, starts)


def _kept(
    shape: tuple[int, int], chunk: tuple[int, int], labels: np.ndarray | None, keep: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels evenly among those that are explained, the same each time; see `Grid`."""
    across = math.ceil(shape[1] / chunk[1])
    blocks = math.ceil(shape[0] / chunk[0]) * across
    there = None if labels is None or not keep else np.flatnonzero(labels > 0)
    count = math.prod(shape) if there is None else len(there)
    if keep >= count:
        drawn = np.arange(count)
    else:
        drawn = np.random.default_rng(0).choice(count, keep, replace=False, shuffle=False)
    places = np.stack(np.divmod(np.sort(drawn if there is None else there[drawn]), shape[1]), axis=1)
    of_block = places[:, 0] // chunk[0] * across + places[:, 1] // chunk[1]
    places = places[np.argsort(of_block, kind="stable")]
    return places, np.concatenate([[0], np.cumsum(np.bincount(of_block, minlength=blocks))])


def _labels(pixels: Any, shape: tuple[int, int], stride: int) -> np.ndarray:
    """Return the class of each pixel of the scene from what a user gave as `pixels`."""
    if hasattr(pixels, "dims") and len(pixels.dims) == 2:  # a DataArray, whose rows may stand behind its columns
        pixels = pixels.transpose(*spatial_dimensions(pixels, None))
    given = np.asarray(getattr(pixels, "values", pixels))
    if given.shape == shape and not isinstance(pixels, list | tuple):
        if given.dtype.kind == "f":
            if (given[np.isfinite(given)] % 1 != 0).any():
                raise TypeError("pixels must be a mask, whole numbers or places; its values have fractions")
            given = np.where(np.isfinite(given), given, 0).astype(np.int64)
        if given.dtype.kind not in "biu":
            raise TypeError(f"pixels must be a mask of bool or labels of integers, not of {given.dtype}")
        return given.astype(np.uint8) if given.dtype == np.bool_ else given
    if given.ndim != 2 or given.shape[1] != 2 or given.dtype.kind not in "iu":
        raise ShapeMismatchError(
            f"pixels must be a mask or labels of the scene's shape, {shape}, or a list of (row, column), not an array "
            f"of {given.dtype} of shape {given.shape}"
        )
    if stride > 1:
        raise ValueError(f"pixels has places, which leaves no sense to a stride of {stride}")
    outside = ((given < 0) | (given >= shape)).any(axis=1)
    if outside.any():
        row, column = given[outside.argmax()]
        raise IndexError(f"pixels has ({row}, {column}), which is outside a scene of {shape[0]} x {shape[1]}")
    labels = np.zeros(shape, dtype=np.uint8)
    labels[given[:, 0], given[:, 1]] = 1
    return labels
