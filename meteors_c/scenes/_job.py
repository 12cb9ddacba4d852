"""What is computed of one block: by this process, or by any that gets the job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from meteors_c import _core
from meteors_c._options import Options, options
from meteors_c.scenes._explaining import Call
from meteors_c.scenes._grid import Block, Grid
from meteors_c.scenes._source import Scene

__all__ = ["GROUP_BYTES", "Job", "Outcome", "Tiling"]

GROUP_BYTES = 64 << 20  # of attributions that one call makes

Read = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut where a network makes maps of it.

    Attributes
    ----------
    overlap : tuple of int
        Rows and columns that a tile reaches beyond its block, on each side.
    alignment : tuple of int
        What the first row and column of a tile are multiples of.
    """

    overlap: tuple[int, int] = (0, 0)
    alignment: tuple[int, int] = (1, 1)

    def part(self, axis: int, first: int, last: int, size: int) -> slice:
        """Return the rows or columns of the tile for a block that has these of a scene of this size."""
        step, beyond = self.alignment[axis], self.overlap[axis]
        start = max(0, first - beyond) // step * step
        stop = -(-(last + 1 + beyond - start) // step) * step + start
        return slice(start, min(stop, size))


@dataclass
class Outcome:
    """What was found of a block.

    Attributes
    ----------
    maps : numpy.ndarray
        (targets, rows, columns): NaN where a pixel is not explained.
    values : numpy.ndarray or None
        (targets, bands, rows, columns).
    sums : numpy.ndarray
        (targets, classes, bands), of attributions.
    pixels : numpy.ndarray
        (classes,), how many pixels were explained.
    kept : numpy.ndarray or None
        (targets + 1, pixels, bands) of the pixels whose spectra are results: attributions, and behind these the
        spectra themselves. NaN where there is nothing.
    counts : dict
        What the calls report.
    shortcut : str or None
        A shortcut that was taken.
    """

    maps: np.ndarray | None
    values: np.ndarray | None
    sums: np.ndarray
    pixels: np.ndarray
    kept: np.ndarray | None
    counts: dict[str, int]
    shortcut: str | None = None

    def without_maps(self) -> Outcome:
        """Return what is left to tell where the maps have been written."""
        return replace(self, maps=None, values=None, kept=None)


@dataclass
class Job:
    """Everything but the pixels that a block needs.

    Attributes
    ----------
    scene, grid, call
        The scene, the pixels of the map without labels (blocks bring theirs), what is computed.
    classes : int
        How many classes there are.
    window : tuple of int or None
        Rows and columns of the window around each pixel.
    tiling : Tiling or None
        How a scene without windows is cut.
    over_window : bool
        Whether a pixel takes the sums over its window, instead of the values at its centre.
    keep_values : bool
        Whether all values are results.
    settings : Options
        Of the engine.
    """

    scene: Scene
    grid: Grid
    call: Call
    classes: int
    window: tuple[int, int] | None
    tiling: Tiling | None
    over_window: bool
    keep_values: bool
    settings: Options

    def read(self, block: Block) -> Read:
        """Return the part of the scene that a block needs: its windows or its tile."""
        places = (self.grid.of_scene(block.rows), self.grid.of_scene(block.columns))
        if self.tiling is not None:
            parts = [self.tiling.part(axis, *places[axis], self.scene.shape[1 + axis]) for axis in (0, 1)]
            return self.scene.read(parts[0], parts[1])
        assert self.window is not None
        padded = [
            _reflected(first - window // 2, last + window // 2 + 1, size)
            for (first, last), window, size in zip(places, self.window, self.scene.shape[1:], strict=True)
        ]
        low = [int(places.min()) for places in padded]
        values, used = self.scene.read(*(slice(at, int(of.max()) + 1) for at, of in zip(low, padded, strict=True)))
        index = [of - at for at, of in zip(low, padded, strict=True)]
        return _taken(values, index), None if used is None else _taken(used, index)

    def compute(self, block: Block, read: Read) -> Outcome:
        """Return what is found of a block from what `read` gave."""
        targets, bands = len(self.call.targets), self.scene.shape[0]
        dtype = self.scene.result_dtype
        outcome = Outcome(
            maps=np.full((targets, *block.shape), np.nan, dtype),
            values=np.full((targets, bands, *block.shape), np.nan, dtype) if self.keep_values else None,
            sums=np.zeros((targets, self.classes, bands)),
            pixels=np.zeros(self.classes, dtype=np.int64),
            kept=np.full((targets + 1, len(block.kept[0]), bands), np.nan, dtype),
            counts={},
        )
        with options(**asdict(self.settings)):
            if self.window is not None:
                self._windows(block, read, outcome)
            else:
                self._tile(block, read, outcome)
        outcome.counts, outcome.shortcut = self.call.take_counts(), self.call.shortcut
        return outcome

    def _windows(self, block: Block, read: Read, outcome: Outcome) -> None:
        assert self.window is not None
        values, used = read
        height, width = self.window
        rows, columns, classes = block.pixels_of()
        tops, lefts = rows * self.grid.stride, columns * self.grid.stride
        if used is not None:  # a pixel without any value is not explained
            there = used[:, tops + height // 2, lefts + width // 2].any(axis=0)
            rows, columns, classes, tops, lefts = (of[there] for of in (rows, columns, classes, tops, lefts))
        _put_spectra(outcome, block, values, used, (height // 2, width // 2), self.grid.stride)
        image = self.scene.image(values, used)
        each = values.shape[0] * height * width * self.scene.result_dtype.itemsize * len(self.call.targets)
        size = max(1, GROUP_BYTES // each)
        for at in range(0, len(rows), size):
            part = slice(at, at + size)
            windows = _core.windows(image, tops[part], lefts[part], height, width)
            places = (block.rows.start + rows[part]) * self.grid.shape[1] + block.columns.start + columns[part]
            for t, attributions in enumerate(self.call(windows, places.tolist())):
                spectra = _core.window_spectra(attributions, image.spectral_axis, self.over_window)
                _put(outcome, block, t, spectra, rows[part], columns[part], classes[part], self.call.counted)
            outcome.pixels += np.bincount(classes[part], minlength=self.classes)

    def _tile(self, block: Block, read: Read, outcome: Outcome) -> None:
        assert self.tiling is not None
        values, used = read
        rows, columns, classes = block.pixels_of()
        top = block.rows.start - self.tiling.part(0, block.rows.start, block.rows.stop - 1, self.scene.shape[1]).start
        left = block.columns.start
        left -= self.tiling.part(1, block.columns.start, block.columns.stop - 1, self.scene.shape[2]).start
        if used is not None:
            there = used[:, top + rows, left + columns].any(axis=0)
            rows, columns, classes = rows[there], columns[there], classes[there]
        if not len(rows):
            return
        _put_spectra(outcome, block, values, used, (top, left), 1)
        image = self.scene.image(values, used)
        axes = [image.orientation.index(letter) for letter in "CHW"]
        for t, attributions in enumerate(self.call([image], [0])):  # the same draws for each tile
            tile = attributions[0].permute(axes).cpu().numpy()
            _put(outcome, block, t, tile[:, top + rows, left + columns].T.astype(np.float64), rows, columns, classes)
        outcome.pixels += np.bincount(classes, minlength=self.classes)


def _put_spectra(
    outcome: Outcome, block: Block, values: np.ndarray, used: np.ndarray | None, start: tuple[int, int], stride: int
) -> None:
    """Put the spectra of the pixels that are kept into what was found; the first pixel of the block is at `start`."""
    assert outcome.kept is not None
    rows, columns = (begin + stride * places for begin, places in zip(start, block.kept, strict=True))
    spectra = values[:, rows, columns]
    outcome.kept[-1] = (spectra if used is None else np.where(used[:, rows, columns], spectra, np.nan)).T


def _put(
    outcome: Outcome, block: Block, t: int, spectra: np.ndarray, rows: np.ndarray, columns: np.ndarray,
    classes: np.ndarray, counted: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Put the spectra of pixels, (pixels, bands), into what was found for a target; the map adds up some bands."""
    assert outcome.maps is not None
    outcome.maps[t, rows, columns] = (spectra if counted is None else spectra[:, counted]).sum(axis=1)
    if outcome.values is not None:
        outcome.values[t, :, rows, columns] = spectra
    assert outcome.kept is not None
    if outcome.kept.shape[1]:
        slots = np.full(block.shape, -1)
        slots[block.kept] = np.arange(outcome.kept.shape[1])
        slot = slots[rows, columns]
        outcome.kept[t, slot[slot >= 0]] = spectra[slot >= 0]
    if outcome.sums.shape[1] == 1:
        outcome.sums[t, 0] += spectra.sum(axis=0)
    else:
        np.add.at(outcome.sums[t], classes, spectra)


def _reflected(start: int, stop: int, size: int) -> np.ndarray:
    """Return positions from start to stop, those outside [0, size) mirrored at the first and last, which stand once."""
    if size == 1:
        return np.zeros(stop - start, dtype=np.int64)
    places = np.arange(start, stop) % (2 * size - 2)
    return np.minimum(places, 2 * size - 2 - places)


def _taken(values: np.ndarray, index: list[np.ndarray]) -> np.ndarray:
    """Return the rows and columns of an index, without a copy where it takes all."""
    for axis, places in enumerate(index, start=1):
        if len(places) != values.shape[axis] or (places != np.arange(len(places))).any():
            values = values.take(places, axis=axis)
    return values
