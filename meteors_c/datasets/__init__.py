"""Scenes to start with: a simulated field with a trained model and the truth, the files of the HYPERVIEW challenge, and
the AVIRIS scene of Indian Pines (:mod:`meteors_c.datasets.indian_pines`).

The embedded field is drawn by ``meteors_c.datasets._simulate`` (the physics and its sources are described there) and
written by ``tools/make_field.py``; the model's weights come from ``tools/train_demo_model.py``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from meteors_c.datasets._indian_pines_models import (
    indian_pines_classifier,
    indian_pines_segmenter,
    indian_pines_unet,
)
from meteors_c.datasets.indian_pines import IndianPines, load_indian_pines
from meteors_c.exceptions import ShapeMismatchError, ValidationError

if TYPE_CHECKING:
    from meteors_c.hsi import HSI

__all__ = [
    "DemoTruth",
    "IndianPines",
    "indian_pines_classifier",
    "indian_pines_segmenter",
    "indian_pines_unet",
    "load_demo_field",
    "load_demo_model",
    "load_demo_truth",
    "load_hyperview",
    "load_indian_pines",
]

_HERE = Path(__file__).parent
_FIELD = _HERE / "demo_field.npz"
_WEIGHTS = _HERE / "demo_model.npz"
_TARGET_NAMES = ("P", "K", "Mg", "pH")
_WAVELENGTH_FILES = ("wavelenghts.txt", "wavelengths.txt")  # the challenge's own spelling first


@dataclass(frozen=True)
class DemoTruth:
    """What is known about the embedded field.

    Attributes
    ----------
    names : tuple of str
        P, K, Mg (mg/kg) and pH: the outputs of the demo model, in its order.
    targets : Tensor of float32, (4,)
        The field's targets.
    known_bands : Tensor of bool, (4, 150)
        Bands that each target acts on: those with at least 20 % of its largest `response`.
    response : Tensor of float32, (4, 150)
        Change of an average pixel's spectrum, in counts, from the target's lowest to its highest value.
    reference : Tensor of float32, (150,)
        Spectrum of an average pixel, in counts, with every target in the middle of its range: a baseline.

    Examples
    --------
    >>> truth = load_demo_truth()
    >>> truth.names, truth.known_bands.shape
    (('P', 'K', 'Mg', 'pH'), torch.Size([4, 150]))
    """

    names: tuple[str, ...]
    targets: torch.Tensor
    known_bands: torch.Tensor
    response: torch.Tensor
    reference: torch.Tensor


def load_demo_field() -> HSI:
    """The embedded simulated field.

    Returns
    -------
    HSI
        Image (150, 96, 96), float32, 10000 times reflectance, orientation CHW; wavelengths 462.08 to 938.37 nm; the
        binary mask is True inside the field.

    Examples
    --------
    >>> load_demo_field()
    HSI(shape=(150, 96, 96), dtype=torch.float32, orientation=CHW, wavelengths=462.08-938.37 nm, ...)
    """
    with _open(_FIELD) as archive:
        return load_hyperview(_FIELD, wavelengths=archive["wavelengths"])


def load_demo_truth() -> DemoTruth:
    """What is known about the embedded field: its targets and the bands that they act on.

    Returns
    -------
    DemoTruth

    Examples
    --------
    >>> truth = load_demo_truth()
    >>> dict(zip(truth.names, truth.targets.round().tolist()))
    {'P': 40.0, 'K': 340.0, 'Mg': 220.0, 'pH': 6.0}
    """
    with _open(_FIELD) as archive:
        return DemoTruth(
            names=_TARGET_NAMES,
            targets=torch.from_numpy(archive["targets"]).float(),
            known_bands=torch.from_numpy(archive["known_bands"]),
            response=torch.from_numpy(archive["response"]).float(),
            reference=torch.from_numpy(archive["reference"]).float(),
        )


def load_demo_model() -> torch.nn.Module:
    """The small convolutional network trained on simulated fields.

    Returns
    -------
    torch.nn.Module
        In eval mode. Takes (n, 150, rows, columns), 10000 times reflectance and zero outside the field, for any number
        of rows and columns; gives (n, 4): P, K, Mg in mg/kg, and pH.

    Examples
    --------
    >>> load_demo_model()(load_demo_field().get_image()[None]).shape
    torch.Size([1, 4])
    """
    from meteors_c.datasets._model import FieldRegressor

    with _open(_WEIGHTS) as archive:
        weights = {name: torch.from_numpy(archive[name]) for name in archive}
    model = FieldRegressor()
    model.load_state_dict(weights)
    return model.eval()


def load_hyperview(
    path: str | PathLike[str],
    wavelengths: str | PathLike[str] | Sequence[float] | NDArray[Any] | torch.Tensor | None = None,
) -> HSI:
    """Read a field of the HYPERVIEW challenge.

    Parameters
    ----------
    path : path
        An npz archive with ``data``, numbers of shape (bands, rows, columns), and ``mask``, bool of the same shape or
        (rows, columns), True for values to hide.
    wavelengths : path or numbers, optional
        Band centres in nm, or a text file with them (commas or blanks between). Left out: ``wavelenghts.txt`` (the
        challenge's spelling) or ``wavelengths.txt`` beside `path`.

    Returns
    -------
    HSI
        Image in float32 with the file's values, orientation CHW. Its binary mask is True where the pixel is to be
        used: the opposite of the file's.

    Raises
    ------
    FileNotFoundError
        No such archive, or no file of wavelengths.
    ValidationError
        Not an npz archive, an array missing or of the wrong type, wavelengths that are not finite numbers.
    ShapeMismatchError
        Data, mask and wavelengths do not fit together.

    Examples
    --------
    >>> field = load_demo_field()
    >>> np.savez("0.npz", data=field.image.numpy(), mask=~field.binary_mask.numpy())
    >>> load_hyperview("0.npz", wavelengths=field.wavelengths) == field
    True
    """
    from meteors_c.hsi import HSI

    path = Path(path)
    with _open(path) as archive:
        missing = [name for name in ("data", "mask") if name not in archive]
        if missing:
            held = ", ".join(archive) or "none"
            raise ValidationError(f"{path} has no array {' and '.join(missing)}; it holds {held}")
        data, mask = archive["data"], archive["mask"]
    if data.dtype.kind not in "iuf":
        raise ValidationError(f"data in {path} must be real numbers, got {data.dtype}")
    if mask.dtype != np.bool_:
        raise ValidationError(f"mask in {path} must be bool (True = hide), got {mask.dtype}")
    if data.ndim != 3:
        raise ShapeMismatchError(f"data in {path} must have the shape (bands, rows, columns), got {data.shape}")
    if mask.shape not in (data.shape, data.shape[1:]):
        wanted = f"{data.shape} or {data.shape[1:]}"
        raise ShapeMismatchError(f"mask in {path} must have data's shape, {wanted}, got {mask.shape}")
    centres = _read_wavelengths(path, wavelengths)
    if centres.shape != (data.shape[0],):
        wanted = f"({data.shape[0]},), one per band of {path}"
        raise ShapeMismatchError(f"wavelengths must have the shape {wanted}, got {centres.shape}")
    return HSI(
        image=torch.from_numpy(data.astype(np.float32)),
        wavelengths=torch.from_numpy(centres),
        orientation=("C", "H", "W"),
        binary_mask=torch.from_numpy(~np.broadcast_to(mask, data.shape)),
    )


@contextmanager
def _open(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open an npz archive; damage shows as a ValidationError, also when an array is read later."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValidationError(f"{path} is not an npz archive: it holds a single array")
        with archive:
            yield archive
    except (FileNotFoundError, ValidationError):
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValidationError(f"{path} is not a readable npz archive: {error}") from error


def _read_wavelengths(path: Path, wavelengths: Any) -> NDArray[np.float64]:
    """Band centres in nm, as given, or from a text file (by default beside `path`)."""
    if wavelengths is None:
        beside = [path.with_name(name) for name in _WAVELENGTH_FILES]
        found = [file for file in beside if file.is_file()]
        if not found:
            raise FileNotFoundError(f"wavelengths not given, and neither {' nor '.join(map(str, beside))} exists")
        wavelengths = found[0]
    try:
        if isinstance(wavelengths, str | PathLike):
            words = Path(wavelengths).read_text(encoding="utf-8").replace(",", " ").split()
            centres = np.array(words, dtype=np.float64)
        elif isinstance(wavelengths, torch.Tensor):
            centres = wavelengths.detach().cpu().double().numpy()
        else:
            centres = np.array(wavelengths, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValidationError(f"wavelengths must be numbers in nm, got {wavelengths}: {error}") from error
    if not np.isfinite(centres).all():
        raise ValidationError(f"wavelengths must be finite numbers in nm, got {centres[~np.isfinite(centres)][0]}")
    return centres
