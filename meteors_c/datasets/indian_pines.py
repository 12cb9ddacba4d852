"""AVIRIS Indian Pines [1]_: a real scene of 200 bands over farmland in Indiana, with its ground truth.

The image and the ground truth come inside the PyPI package ``tensorly``; nothing is fetched.

*Wavelengths.* The band centres that the package lists are wrong in two ways, so
:func:`~meteors_c.datasets.load_indian_pines` gives others:

- Two of them are typing mistakes. The list goes 2192.37, 2202.30, **2260.22, 2270.15**, 2232.07, 2241.99, in steps of
  9.92 nm or so but for these two. They are 2212.22 and 2222.15.
- From the 104th on, all are one band late. The image was made from 220 bands by removing 104 to 108, 150 to 163 and
  220, water vapour and noise. The list has no room for band 109: it jumps by 7 steps over 5 removed bands, from 1352.68
  to 1422.34 nm, so that its last entry, 2498.96 nm, is left for the removed band 220. The image decides: by the list,
  carbon dioxide absorbs most at 1585, 1618, 2019 and 2070 nm (brightest tenth of the pixels); one band earlier, at
  1575, 1608, 2009 and 2060 nm. It does absorb at 1575, 1606, 2009 and 2060 nm [2]_. The centres of bands 109 and 164,
  which the list lacks, continue it by one step: 1412.39 and 1943.27 nm.

Two descents are real. AVIRIS is four spectrometers that overlap, so the centres step back from 696.50 to 686.91 nm and
from 1282.55 to 1273.00 nm. Bands are left in the order of the image.

.. [1] M. F. Baumgardner, L. L. Biehl, D. A. Landgrebe, 220 Band AVIRIS Hyperspectral Image Data Set: June 12, 1992
       Indian Pine Test Site 3, Purdue University Research Repository (2015), doi:10.4231/R7RX991C. CC BY 3.0.
.. [2] L. S. Rothman et al., The HITRAN2012 molecular spectroscopic database, J. Quant. Spectrosc. Radiat. Transf. 130,
       4 (2013): the bands at 6348, 6228, 4978 and 4854 per cm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from meteors_c.exceptions import ShapeMismatchError

if TYPE_CHECKING:
    from meteors_c.hsi import HSI

__all__ = ["GROUPS", "IndianPines", "group_labels", "load_indian_pines"]

CLASS_NAMES = (
    "unlabelled",
    "Alfalfa",
    "Corn-notill",
    "Corn-mintill",
    "Corn",
    "Grass-pasture",
    "Grass-trees",
    "Grass-pasture-mowed",
    "Hay-windrowed",
    "Oats",
    "Soybean-notill",
    "Soybean-mintill",
    "Soybean-clean",
    "Wheat",
    "Woods",
    "Buildings-Grass-Trees-Drives",
    "Stone-Steel-Towers",
)
#: Groups of classes, which the U-Net tells apart: name, and the classes that belong to it.
GROUPS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("corn", (2, 3, 4)),
    ("soybean", (10, 11, 12)),
    ("grass and hay", (5, 6, 7, 8)),
    ("wheat, oats, alfalfa", (1, 9, 13)),
    ("woods and buildings", (14, 15, 16)),
)

CITATION = (
    "Baumgardner, M. F., Biehl, L. L., Landgrebe, D. A. (2015). 220 Band AVIRIS Hyperspectral Image Data Set: "
    "June 12, 1992 Indian Pine Test Site 3. Purdue University Research Repository. doi:10.4231/R7RX991C"
)
LICENCE = "CC BY 3.0, https://creativecommons.org/licenses/by/3.0/"

# The rows that are held out: two strips that have pixels of most classes in them and leave some outside.
HELD_OUT_ROWS = (slice(24, 36), slice(87, 99))
# A training pixel is more than this many rows away from held-out pixels: patches of 9 x 9 share no pixel.
MARGIN = 8

_WAVELENGTHS = Path(__file__).with_name("indian_pines_wavelengths.txt")


@dataclass(frozen=True)
class IndianPines:
    """The scene, its ground truth, and which pixels are for training and which are held out.

    Attributes
    ----------
    hsi : HSI
        Image (200, 145, 145), float32, orientation CHW. Its values are those of the file: 1000 + 500 times the radiance
        at the sensor in µW / (cm² nm sr), 955 to 9604; no reflectance.
    labels : Tensor of uint8, (145, 145)
        Index into `class_names`; 0 where nobody knows.
    class_names : tuple of str
        The 17 names: ``"unlabelled"``, then the 16 classes in the usual order.
    wavelengths : Tensor of float32, (200,)
        Band centres in nm, corrected (see :mod:`meteors_c.datasets.indian_pines`), in the order of the bands.
    training, held_out : Tensor of bool, (145, 145)
        Labelled pixels in two parts that lie apart: see :func:`load_indian_pines`.
    citation, licence : str
        To be given wherever the scene is shown.

    Examples
    --------
    >>> scene = load_indian_pines()
    >>> int(scene.training.sum()), int(scene.held_out.sum())
    (6383, 1340)
    """

    hsi: HSI
    labels: torch.Tensor
    class_names: tuple[str, ...]
    wavelengths: torch.Tensor
    training: torch.Tensor
    held_out: torch.Tensor
    citation: str = CITATION
    licence: str = LICENCE

    def pixels(self, *names: str) -> torch.Tensor:
        """Where the classes are.

        Parameters
        ----------
        *names : str
            Names of classes, or beginnings of names: ``"Corn"`` is all three classes of corn.

        Returns
        -------
        Tensor of bool, (145, 145)

        Raises
        ------
        ValueError
            A name that no class begins with.

        Examples
        --------
        >>> scene = load_indian_pines()
        >>> int(scene.pixels("Corn").sum())
        2495
        """
        chosen = torch.zeros_like(self.training)
        for name in names:
            found = [index for index, full in enumerate(self.class_names) if full.startswith(name)]
            if not found:
                raise ValueError(f"no class begins with {name!r}; the classes are {', '.join(self.class_names)}")
            chosen |= torch.isin(self.labels, torch.tensor(found, dtype=self.labels.dtype))
        return chosen


def load_indian_pines() -> IndianPines:
    """Read the AVIRIS Indian Pines scene from the installed package ``tensorly``.

    Neighbouring pixels of a field are nearly alike, so a classifier that is tested between its training pixels is
    tested on what it has seen. Here rows 24 to 35 and 87 to 98 are held out, and the 8 rows above and below each strip
    are not for training: no patch of 9 x 9 pixels about a held-out pixel shares one with a patch about a training
    pixel. Other parts of most held-out fields are for training; how a field of another farm would fare is not known. Of
    Alfalfa, Grass-pasture-mowed, Oats and Wheat no pixel is held out.

    Returns
    -------
    IndianPines

    Raises
    ------
    ImportError
        The package ``tensorly`` is not installed.
    ShapeMismatchError
        The installed package holds a scene of another size.

    Examples
    --------
    >>> scene = load_indian_pines()
    >>> scene.hsi.image.shape
    torch.Size([200, 145, 145])
    >>> scene.class_names[scene.labels[0, 0]]
    'Corn-mintill'
    """
    from meteors_c.hsi import HSI

    try:
        from tensorly import datasets as tensorly_datasets
    except ImportError as error:
        raise ImportError("the Indian Pines scene is part of the package tensorly: pip install tensorly") from error
    bunch = tensorly_datasets.load_indian_pines()
    image = np.moveaxis(np.asarray(bunch.tensor, dtype=np.float32), -1, 0)
    labels = torch.from_numpy(np.array(bunch.ticks[0], dtype=np.uint8))
    wavelengths = torch.from_numpy(np.array(_WAVELENGTHS.read_text(encoding="ascii").split(), dtype=np.float32))
    if image.shape != (200, 145, 145) or labels.shape != (145, 145):
        raise ShapeMismatchError(
            "the scene of tensorly must have 145 rows, 145 columns and 200 bands with a label for each pixel, got "
            f"{image.shape[1:] + image.shape[:1]} and labels {tuple(labels.shape)}"
        )
    training, held_out = _split(labels)
    return IndianPines(
        hsi=HSI(image=torch.from_numpy(np.ascontiguousarray(image)), wavelengths=wavelengths),
        labels=labels,
        class_names=CLASS_NAMES,
        wavelengths=wavelengths,
        training=training,
        held_out=held_out,
    )


def held_out_strips() -> torch.Tensor:
    """Where pixels are held out, labelled or not: bool, (145, 145)."""
    strips = torch.zeros(145, 145, dtype=torch.bool)
    for rows in HELD_OUT_ROWS:
        strips[rows] = True
    return strips


def _split(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labelled pixels for training and held out, with a margin between."""
    held_out, labelled = held_out_strips(), labels > 0
    near = torch.nn.functional.max_pool2d(held_out[None].float(), 2 * MARGIN + 1, stride=1, padding=MARGIN)[0] > 0
    return labelled & ~near, labelled & held_out


def group_labels(labels: torch.Tensor) -> torch.Tensor:
    """Index into `GROUPS` for each class of the ground truth; -1 where there is none.

    Parameters
    ----------
    labels : Tensor
        Classes, 0 for unlabelled.

    Returns
    -------
    Tensor of int64, same shape

    Examples
    --------
    >>> group_labels(torch.tensor([0, 3, 11]))
    tensor([-1,  0,  1])
    """
    groups = torch.full(labels.shape, -1, dtype=torch.int64)
    for index, (_, members) in enumerate(GROUPS):
        groups[torch.isin(labels.long(), torch.tensor(members))] = index
    return groups
