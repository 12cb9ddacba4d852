"""Superpixels and superbands of the benchmarks: made once, outside of what is timed, the same in every process."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from .models import scene_of

SEGMENTS, GROUPS = 10, 3


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="meteors_c_bench_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def superpixels_file(scene: str, tiny: bool) -> Path:
    """Write SLIC superpixels of the scene's first image, (1, height, width), for the processes to read."""
    from skimage.segmentation import slic

    image = scene_of(scene, tiny).images()[0].numpy()
    ids = slic(image, n_segments=SEGMENTS, channel_axis=0, start_label=0)
    path = _folder() / f"{scene.replace(' ', '_')}_{tiny}.npy"
    np.save(path, ids[None].astype(np.int64))
    return path


def squares(size: int, along: int) -> torch.Tensor:
    """Ids of superpixels that are squares, `along` along each side of `size` pixels, (1, size, size)."""
    place = torch.arange(size) * along // size
    return (place[:, None] * along + place)[None]


def superbands(bands: int) -> torch.Tensor:
    """Ids of equal groups of neighbouring bands, (bands, 1, 1)."""
    return (torch.arange(bands) * GROUPS // bands)[:, None, None]
