"""What a scene is, as text that is the same in every process: a second start must not mix two scenes."""

from __future__ import annotations

import hashlib

import numpy as np

from meteors_c.scenes._said import said
from meteors_c.scenes._source import Scene

__all__ = ["fingerprint_of_scene"]

WHOLE_BYTES = 256 << 20  # of a scene in memory, all of whose values are compared
PLACES = 3  # along rows and along columns, of the pixels of any other


def fingerprint_of_scene(scene: Scene) -> str:
    """Return what a scene is as the model gets it, its mask, and its values.

    All of them where they lie in memory and are few enough; else those of some pixels, since reading a scene that does
    not fit into memory would cost as much as explaining it.
    """
    described = [list(scene.shape), str(scene.dtype), scene.wavelengths, scene.nodata, scene.orientation]
    mask = None if scene.mask is None else _once(scene.mask)
    return said([*described, mask, _all_values(scene) if _is_small(scene) else _some_values(scene)])


def _is_small(scene: Scene) -> bool:
    return scene.in_memory and int(scene.array.nbytes) <= WHOLE_BYTES


def _all_values(scene: Scene) -> str:
    digest = hashlib.sha256()
    for plane in scene.array.data:
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _some_values(scene: Scene) -> list[np.ndarray]:
    """Return the spectra of pixels that lie evenly over a scene, away from its border, which often has no values."""
    _, rows, columns = scene.shape
    down, across = (sorted({(2 * i + 1) * size // (2 * PLACES) for i in range(PLACES)}) for size in (rows, columns))
    return [scene.read(slice(row, row + 1), slice(column, column + 1))[0] for row in down for column in across]


def _once(mask: np.ndarray) -> np.ndarray:
    """Return a mask without its copies along axes on which it is the same."""
    return mask[tuple(slice(1) if step == 0 else slice(None) for step in mask.strides)]
