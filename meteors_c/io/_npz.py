"""Attribution results on disk: one npz file, without pickles.

``numpy.load(path, allow_pickle=False)`` reads the file too: ``header`` is a JSON text, the others are the arrays.
The header holds ``format``, ``format_version``, ``package_version``, ``class``, ``fields`` (everything but tensors) and
``arrays``, which says of each entry the dtype and shape of the tensor that it stands for. What was found of each
feature is in the entries ``effects.<field>`` and, but for tensors, in the field ``effects``; files that have it are of
version 2, all others of version 1. In an entry

- axes along which all values are the same have size 1 (a mask of superpixels is stored once, not once per band);
- bool values are packed, 8 to the byte; bfloat16, which NumPy lacks, is kept as int16 of the same bits.

Where the image has a georeference or a source, ``fields`` has those too; readers that do not know them leave them out.

In ``fields`` a list that stands for something JSON lacks begins with its type: ``["tuple", 1]``, ``["float", "nan"]``.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import zipfile
from typing import Any, TypeVar

import numpy as np
import torch

from meteors_c._files import replacing
from meteors_c._version import __version__
from meteors_c.attr import attributes as results
from meteors_c.attr._fields import IMAGE_SHAPED, check_shape, validate_band_names, validate_score
from meteors_c.attr.effects import FeatureEffects
from meteors_c.attr.report import Report
from meteors_c.hsi import HSI, validate_shapes
from meteors_c.io.georeference import Georeference

__all__ = ["load", "save"]

_FORMAT = "meteors_c attributes"
_FORMAT_VERSION = 2
_EFFECTS = "effects."  # what the names of entries begin with that hold tensors of `FeatureEffects`
_CLASSES = {
    kind.__name__: kind for kind in (results.HSIAttributesSpatial, results.HSIAttributesSpectral, results.HSIAttributes)
}
Result = TypeVar("Result", bound=results.HSIAttributes)

# What zipfile, NumPy, torch and the checks of this module say of a file that is not as `save` wrote it.
_DAMAGE = (
    zipfile.BadZipFile,
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _RefusedError(Exception):
    """Why a file is not read: the end of a sentence that begins with its name."""


def save(result: results.HSIAttributes, path: str | os.PathLike[str]) -> None:
    """Write a result and its image to a file; see `HSIAttributes.save`.

    Examples
    --------
    >>> save(result, "phosphorus.npz")
    >>> load("phosphorus.npz", "cpu", attr.HSIAttributes) == result
    True
    """
    if not isinstance(result, results.HSIAttributes):
        raise TypeError(f"result must be an HSIAttributes, not {type(result).__name__}")
    contents = _contents(result)  # what can't be saved is refused before a file is made
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in contents.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def load(path: str | os.PathLike[str], device: str | torch.device, kind: type[Result]) -> Result:
    """Read a result from a file; see `HSIAttributes.load`. It must be a ``kind``.

    Examples
    --------
    >>> save(spatial, "windows.npz")
    >>> load("windows.npz", "cpu", attr.HSIAttributesSpatial) == spatial
    True
    """
    name = os.fsdecode(os.fspath(path))
    with torch.inference_mode(False), open(name, "rb") as file:  # what is loaded can be trained with
        try:
            header, arrays = _read(file)
            stored = _CLASSES[header["class"]]
            fields = {key: _decode(value) for key, value in header["fields"].items()}
            tensors = {key: _tensor(arrays[key], about) for key, about in header["arrays"].items()}
            result = _assemble(stored, fields, tensors)
        except _RefusedError as error:
            raise ValueError(f"{name!r} {error}") from None
        except _DAMAGE as error:
            raise ValueError(f"{name!r} is damaged or truncated ({type(error).__name__}: {error})") from error
    if not isinstance(result, kind):
        raise ValueError(f"{name!r} holds {stored.__name__}, not {kind.__name__}: use HSIAttributes.load")
    return result.to(device)


def _contents(result: results.HSIAttributes) -> dict[str, np.ndarray]:
    """Give the entries of the file, the header first; fields that were assigned to are checked here."""
    hsi = result.hsi
    if not isinstance(hsi, HSI):
        raise TypeError(f"hsi must be an HSI to be saved, not {type(hsi).__name__}")
    tensors = {
        "image": hsi.image,
        "wavelengths": hsi.wavelengths,
        "binary_mask": hsi.binary_mask,
        **{name: getattr(result, name) for name in IMAGE_SHAPED},
    }
    effects = _parts(result.effects)
    tensors |= {_EFFECTS + name: value for name, value in effects.items() if isinstance(value, torch.Tensor)}
    packed = {name: _array(name, tensor) for name, tensor in tensors.items() if tensor is not None}
    validate_shapes(hsi.wavelengths, hsi.image, hsi.spectral_axis)
    for name in packed:
        if name != "wavelengths" and not name.startswith(_EFFECTS):
            check_shape(name, tensors[name], hsi)
    if not isinstance(result.attribution_method, (str, type(None))):
        raise TypeError(f"attribution_method must be a string or None to be saved, not {result.attribution_method!r}")
    fields: dict[str, Any] = {
        "orientation": "".join(hsi.orientation),
        "attribution_method": result.attribution_method,
        "score": validate_score(result.score),
        "target": result.target,
        "report": result.report,
    }
    if isinstance(result, results.HSIAttributesSpectral):
        fields["band_names"] = validate_band_names(result.band_names)
    if hsi.georeference is not None:
        fields["georeference"] = hsi.georeference.to_dict()
    if hsi.source is not None:
        fields["source"] = hsi.source
    if effects:
        fields["effects"] = {name: value for name, value in effects.items() if not isinstance(value, torch.Tensor)}
    header = {
        "format": _FORMAT,
        "format_version": 2 if effects else 1,
        "package_version": __version__,
        "class": next(name for name, kind in _CLASSES.items() if isinstance(result, kind)),
        "fields": {name: _encode(name, value) for name, value in fields.items()},
        "arrays": {name: about for name, (_, about) in packed.items()},
    }
    text = json.dumps(header, allow_nan=False)
    return {"header": np.array(text), **{name: array for name, (array, _) in packed.items()}}


def _parts(effects: Any) -> dict[str, Any]:
    """Return the fields of what was found of each feature; none where there is nothing."""
    if effects is None:
        return {}
    if not isinstance(effects, FeatureEffects):
        raise TypeError(f"effects must be a FeatureEffects or None to be saved, not {type(effects).__name__}")
    return effects.to_dict()


def _read(file: io.BufferedReader) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the header and the arrays, and check each against the other."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        is_archive = file.read(4) == b"PK\x03\x04"
        raise _RefusedError("is damaged or truncated" if is_archive else "is not a file written by HSIAttributes.save")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if "header.npy" not in names:
            raise _RefusedError("is not a file written by HSIAttributes.save: it has no header")
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in archive.infolist()):
            raise _RefusedError("is damaged, or is not a file written by HSIAttributes.save: it is compressed")
        try:
            header = json.loads(str(_entry(archive, "header")))
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise _RefusedError("is not a file written by HSIAttributes.save: its header is another one")
        if header["format_version"] > _FORMAT_VERSION:
            raise _RefusedError(
                f"is in format {header['format_version']}, written by meteors_c {header['package_version']}; this is "
                f"meteors_c {__version__}, which reads up to format {_FORMAT_VERSION}: a newer version is needed"
            )
        arrays = {name: _entry(archive, name) for name in header["arrays"]}
    return header, arrays


def _entry(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    # Read whole first: only then zipfile has compared the checksum, and the array's header can be trusted.
    return np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)


def _assemble(kind: type[Result], fields: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Result:
    """Make a result of what the file holds, as it was saved: without the constructor's clean-up of names."""
    binary_mask = tensors.pop("binary_mask")  # HSI keeps it expanded, so it is not made contiguous
    full = {name: tensor.contiguous() for name, tensor in tensors.items()}
    effects: dict[str, Any] = fields.get("effects", {})
    effects |= {name.removeprefix(_EFFECTS): value for name, value in full.items() if name.startswith(_EFFECTS)}
    hsi = HSI(
        image=full["image"],
        wavelengths=full["wavelengths"],
        orientation=fields["orientation"],
        binary_mask=binary_mask,
        wavelength_unit="nm",  # as they were checked before: no guessing, no warning
        georeference=Georeference.from_dict(fields["georeference"]) if "georeference" in fields else None,
        source=fields.get("source"),
    )
    checked = results.HSIAttributes(
        hsi=hsi,
        attributes=full["attributes"],
        score=fields["score"],
        mask=full.get("mask"),
        report=fields["report"],
        target=fields["target"],
        standard_error=full.get("standard_error"),
        effects=FeatureEffects(**effects) if effects else None,
    )
    result = kind.__new__(kind)
    vars(result).update(vars(checked), attribution_method=fields["attribution_method"])
    if isinstance(result, results.HSIAttributesSpectral):
        result.band_names = fields["band_names"]
    return result


def _array(name: str, tensor: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Give the array that is stored for a tensor, and what the header says of it."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        raise TypeError(f"{name} must be a dense tensor to be saved, not {tensor!r}")
    tensor = tensor.detach()
    about = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    for axis, size in enumerate(tensor.shape):
        if size > 1 and _same_along(tensor, axis):
            tensor = tensor.narrow(axis, 0, 1)
    about["stored_shape"] = list(tensor.shape)
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype == torch.bool:
        return np.packbits(tensor.numpy()), about
    return _bits(tensor).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy(), about


def _same_along(tensor: torch.Tensor, axis: int) -> bool:
    """Tell whether all values along an axis are the same, bit by bit."""
    if tensor.stride(axis) == 0:
        return True
    first, second = tensor.narrow(axis, 0, 1), tensor.narrow(axis, 1, 1)
    # The first two mostly differ already, so the whole is seldom compared.
    return bool((_bits(first) == _bits(second)).all() and (_bits(tensor) == _bits(first)).all())


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values as integers of the same bits, so that NaN equals NaN and 0.0 differs from -0.0."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor
    if tensor.is_complex():
        return _bits(torch.view_as_real(tensor.resolve_conj()))
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _tensor(array: np.ndarray, about: dict[str, Any]) -> torch.Tensor:
    """Give the tensor for an array of the file; axes that were stored once are expanded."""
    dtype = getattr(torch, about["dtype"])
    shape, stored = about["shape"], about["stored_shape"]
    if dtype == torch.bool:
        array = np.unpackbits(array, count=math.prod(stored)).reshape(stored).astype(bool)
    tensor = torch.from_numpy(array)
    if dtype == torch.bfloat16:
        tensor = tensor.view(torch.bfloat16)
    if tensor.dtype != dtype or list(tensor.shape) != stored:
        raise ValueError(
            f"an array is {tuple(tensor.shape)} of {tensor.dtype}, but its header says {stored} of {dtype}"
        )
    return tensor.expand(shape)


def _encode(name: str, value: Any) -> Any:
    """Bring a field into what JSON can hold."""
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if isinstance(value, np.generic):
        return _encode(name, value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else ["float", repr(value)]
    if isinstance(value, torch.Tensor) and value.dim() <= 1 and not value.is_complex():
        return ["tensor", str(value.dtype).removeprefix("torch."), _encode(name, value.tolist())]
    if isinstance(value, (tuple, list)):
        return [type(value).__name__ if type(value) in (tuple, list) else "tuple", *(_encode(name, v) for v in value)]
    if isinstance(value, dict):
        return ["dict", *([_encode(name, key), _encode(name, v)] for key, v in value.items())]
    if isinstance(value, Report):
        return ["report", _encode(name, value.to_dict())]
    raise TypeError(
        f"{name} can't be saved: {value!r} holds something else than numbers, strings, tensors, tuples, lists and dicts"
    )


def _decode(value: Any) -> Any:
    """Bring back what `_encode` was given."""
    if not isinstance(value, list):
        return value
    kind, *parts = value
    if kind == "float":
        return float(parts[0])
    if kind == "tensor":
        return torch.tensor(_decode(parts[1]), dtype=getattr(torch, parts[0]))
    if kind == "dict":
        return {_decode(key): _decode(part) for key, part in parts}
    if kind == "report":
        return _report(_decode(parts[0]))
    if kind not in ("tuple", "list"):
        raise ValueError(f"the header has a value of unknown type {kind!r}")
    values = [_decode(part) for part in parts]
    return tuple(values) if kind == "tuple" else values


def _report(fields: dict[str, Any]) -> Report:
    """Make a report of the fields that this version knows; what the file lacks is None."""
    return Report(**{field.name: fields.get(field.name) for field in dataclasses.fields(Report)})  # type: ignore[arg-type]
