"""Results on disk: what is loaded is what was saved, bit by bit, and nothing but such a file is accepted."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c.attr import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral, Report
from meteors_c.exceptions import DeviceError
from meteors_c.hsi import HSI
from tests.toys import BANDS, COLUMNS, ORIENTATIONS, ROWS, SHAPE, WAVELENGTHS, cube, spatial_mask, values

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64]
REPORT = Report(
    **{"method": "Saliency", "model": "torch", "images": 1, "evaluations": 7, "evaluations_saved": 0, "model_calls": 2},
    **{"chunk_first": 4, "chunk_size": 3, "chunk_largest": 4, "seconds": 0.1, "seconds_in_model": 1 / 3},
    **{"peak_bytes": 2**40, "shortcut": None, "shortcut_evaluations": 0, "shortcut_declined": "hooks"},
)


def result(**fields: Any) -> HSIAttributes:
    return HSIAttributes(**{"hsi": cube(), "attributes": values(1), "attribution_method": "Saliency", **fields})


def spectral(**fields: Any) -> HSIAttributesSpectral:
    mask = torch.tensor([1, 1, 2, 0, 2], dtype=torch.int32).reshape(-1, 1, 1).expand(SHAPE)
    names = {("R", "G"): 1, "N": 2, "not_included": 0}
    return HSIAttributesSpectral(
        **{"hsi": cube(), "attributes": values(1), "mask": mask, "band_names": names, **fields}
    )


def round_trip(saved: HSIAttributes, folder: Path) -> HSIAttributes:
    saved.save(folder / "result.npz")
    return HSIAttributes.load(folder / "result.npz")


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    tensor = tensor.detach().contiguous()
    return tensor.dtype, tensor.shape, tensor.view(torch.uint8).numpy().tobytes()


def special(dtype: torch.dtype) -> torch.Tensor:
    """Numbers of every kind that a float has, among them a NaN with a payload."""
    tensor = values(2, dtype).clone()
    tensor.view(-1)[:6] = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e-40], dtype=dtype)
    width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    tensor.view(-1).view(width)[6] = -1
    return tensor


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats_keep_every_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = result(hsi=cube(dtype=dtype), attributes=special(dtype), standard_error=special(dtype))
    loaded = round_trip(saved, tmp_path)
    assert loaded == saved
    assert bits(loaded.attributes) == bits(saved.attributes)
    assert loaded.standard_error is not None
    assert bits(loaded.standard_error) == bits(special(dtype))
    assert bits(loaded.hsi.image) == bits(saved.hsi.image)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_images_and_masks_keep_their_type(tmp_path: Path, dtype: torch.dtype) -> None:
    image = torch.arange(60).reshape(SHAPE).to(dtype)
    saved = result(hsi=HSI(image=image, wavelengths=[1, 2, 3, 4, 5]), mask=image)
    loaded = round_trip(saved, tmp_path)
    assert loaded == saved
    assert loaded.hsi.wavelengths.dtype == torch.int64
    assert loaded.mask is not None
    assert bits(loaded.mask) == bits(image)
    assert bits(loaded.hsi.image) == bits(image)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_of_a_transposed_image(tmp_path: Path, orientation: str) -> None:
    saved = result(hsi=cube(binary_mask=spatial_mask()), mask=torch.arange(60).reshape(SHAPE))
    saved = saved.change_orientation(orientation)
    assert orientation == "CHW" or not saved.hsi.image.is_contiguous()
    loaded = round_trip(saved, tmp_path)
    assert loaded == saved
    assert loaded.orientation == tuple(orientation)
    assert torch.equal(loaded.hsi.binary_mask, saved.hsi.binary_mask)


@pytest.mark.parametrize(
    "mask",
    [
        None,
        spatial_mask(),
        torch.zeros(SHAPE, dtype=torch.bool),
        values(3) > 0,
        (torch.arange(BANDS) > 2).reshape(-1, 1, 1),
    ],
    ids=["all", "spatial", "none", "scattered", "spectral"],
)
def test_binary_masks(tmp_path: Path, mask: torch.Tensor | None) -> None:
    saved = result(hsi=cube(binary_mask=mask))
    assert torch.equal(round_trip(saved, tmp_path).hsi.binary_mask, saved.hsi.binary_mask)


def test_spectral_result_with_names_of_several_bands(tmp_path: Path) -> None:
    saved = spectral(score=0.1 + 0.2, target=2, report=REPORT)
    loaded = round_trip(saved, tmp_path)
    assert type(loaded) is HSIAttributesSpectral
    assert loaded == saved
    assert list(loaded.band_names.items()) == [(("R", "G"), 1), ("N", 2), ("not_included", 0)]
    assert loaded.report == REPORT
    assert torch.equal(loaded.band_mask, saved.band_mask)


def test_spatial_result(tmp_path: Path) -> None:
    mask = torch.arange(ROWS * COLUMNS).reshape(1, ROWS, COLUMNS).expand(SHAPE)
    saved = HSIAttributesSpatial(hsi=cube(), attributes=values(4)[:1].expand(SHAPE), mask=mask, score=-1.5)
    loaded = round_trip(saved, tmp_path)
    assert type(loaded) is HSIAttributesSpatial
    assert loaded == saved
    loaded.attributes += 1  # no memory is shared between bands
    assert torch.equal(loaded.attributes, saved.attributes + 1)


@pytest.mark.parametrize(
    "target",
    [
        *(None, 0, -3, True, "all", (1, 2), [0, (1, None), -1], {"a": (1,), ("b", 2): [0.5]}, float("inf"), []),
        *(torch.tensor(3), torch.tensor([1, 2], dtype=torch.int32), (torch.tensor([True, False]),)),
    ],
    ids=str,
)
def test_targets(tmp_path: Path, target: Any) -> None:
    saved = result(target=target)
    loaded = round_trip(saved, tmp_path)
    assert loaded == saved
    assert type(loaded.target) is type(target)


@pytest.mark.parametrize("score", [None, 0.0, -0.0, 1 / 3, 5e-324, float("nan"), float("inf"), float("-inf")], ids=str)
def test_scores(tmp_path: Path, score: float | None) -> None:
    assert repr(round_trip(result(score=score), tmp_path).score) == repr(score)


def test_fields_are_kept_as_assigned(tmp_path: Path) -> None:
    saved = spectral()
    saved.attribution_method = "my own method"
    saved.band_names = {"x": 7}
    loaded = round_trip(saved, tmp_path)
    assert loaded == saved
    assert loaded.attribution_method == "my own method"


def test_gradients_are_left_behind(tmp_path: Path) -> None:
    saved = result(hsi=cube(), attributes=values(1).requires_grad_() * 2)
    saved.hsi.image.requires_grad_()
    loaded = round_trip(saved, tmp_path)
    assert torch.equal(loaded.attributes, saved.attributes)
    assert not loaded.attributes.requires_grad
    assert not loaded.hsi.image.requires_grad
    assert saved.attributes.requires_grad
    assert saved.hsi.image.requires_grad


@pytest.mark.parametrize("device", ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])])
def test_device_of_the_result(tmp_path: Path, device: str) -> None:
    result(mask=torch.ones(SHAPE), device=device).save(tmp_path / "r")
    loaded = HSIAttributes.load(tmp_path / "r")
    assert loaded == result(mask=torch.ones(SHAPE))
    assert {loaded.device, loaded.attributes.device, loaded.hsi.image.device} == {torch.device("cpu")}
    assert HSIAttributes.load(tmp_path / "r", device=device).attributes.device == torch.device(device)
    with pytest.raises(DeviceError, match="nowhere"):
        HSIAttributes.load(tmp_path / "r", device="nowhere")


def test_file_is_plain_and_small(tmp_path: Path) -> None:
    shape = (50, 40, 30)
    hsi = HSI(image=values(shape=shape), wavelengths=torch.arange(1.0, 51.0), binary_mask=torch.ones(1, 40, 30))
    mask = torch.arange(1200).reshape(1, 40, 30).repeat(50, 1, 1)
    saved = HSIAttributesSpatial(hsi=hsi, attributes=(mask * 0.5), mask=mask)
    assert round_trip(saved, tmp_path) == saved
    path = tmp_path / "result.npz"
    assert path.stat().st_size < hsi.image.nbytes + 30_000, "what is the same in all bands is stored once"
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(str(file["header"]))
        assert np.array_equal(file["image"], hsi.image.numpy())
    assert header["class"] == "HSIAttributesSpatial"
    assert header["package_version"]
    assert header["arrays"]["mask"]["stored_shape"] == [1, 40, 30]


def test_path_is_taken_as_it_is(tmp_path: Path) -> None:
    for path in (tmp_path / "plain", str(tmp_path / "name.with.dots"), os.fsencode(tmp_path / "bytes")):
        result().save(path)  # type: ignore[arg-type]
        assert HSIAttributes.load(path) == result()  # type: ignore[arg-type]
    assert sorted(os.listdir(tmp_path)) == ["bytes", "name.with.dots", "plain"]
    with pytest.raises(TypeError):
        result().save(3)  # type: ignore[arg-type]


def test_saving_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    result().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert HSIAttributes.load(tmp_path / "real") == result()


def test_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.npz"
    result(target=1).save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="target"):
        result(target=object()).save(path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for function in ("numpy.lib.format.write_array", "os.replace", "os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(function, full)
            with pytest.raises(OSError, match="No space"):
                result(target=2).save(path)
        assert os.listdir(tmp_path) == ["r.npz"]
        assert path.read_bytes() == before
    result(target=2).save(path)
    assert HSIAttributes.load(path).target == 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda r: setattr(r, "score", "high"), ValueError, "score"),
        (lambda r: setattr(r, "attributes", values(1)[0]), ValueError, r"attributes .*\(5, 4, 3\).*\(4, 3\)"),
        (lambda r: setattr(r, "mask", [1, 2]), TypeError, "mask"),
        (lambda r: setattr(r, "standard_error", torch.eye(3).to_sparse()), TypeError, "standard_error"),
        (lambda r: setattr(r, "hsi", None), TypeError, "hsi"),
        (lambda r: setattr(r, "report", object()), TypeError, "report"),
        (lambda r: setattr(r, "attribution_method", 3), TypeError, "attribution_method"),
        (lambda r: setattr(r, "band_names", None), ValueError, "band_names"),
        (lambda r: setattr(r.hsi, "wavelengths", [1.0]), ValueError, "1"),
    ],
)
def test_contradicting_fields_are_refused(
    tmp_path: Path, change: Callable[[HSIAttributes], None], error: type[Exception], words: str
) -> None:
    saved = spectral()
    change(saved)
    with pytest.raises(error, match=words):
        saved.save(tmp_path / "r")
    assert not os.listdir(tmp_path)


def test_folder_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        result().save(tmp_path / "missing" / "r.npz")
    with pytest.raises(IsADirectoryError):
        result().save(tmp_path)
    with pytest.raises(FileNotFoundError):
        HSIAttributes.load(tmp_path / "missing.npz")


def test_class_that_asks_gets_its_own_kind(tmp_path: Path) -> None:
    spectral().save(tmp_path / "r")
    assert HSIAttributesSpectral.load(tmp_path / "r") == spectral()
    with pytest.raises(ValueError, match="HSIAttributesSpectral"):
        HSIAttributesSpatial.load(tmp_path / "r")
    result().save(tmp_path / "r")
    with pytest.raises(ValueError, match="HSIAttributesSpatial"):
        HSIAttributesSpatial.load(tmp_path / "r")


class _Trap:
    """Leaves a mark when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (_Trap, "sprung", True)


def _foreign(kind: str, path: Path) -> None:
    if kind == "text":
        path.write_text("band,value\n1,2\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    else:
        header = {"npz": np.ones(3), "pickle": np.array(_Trap(), dtype=object), "json": np.array("[1]")}[kind]
        with path.open("wb") as file:
            np.savez(file, header=header)


@pytest.mark.parametrize("kind", ["text", "empty", "npy", "zip", "npz", "pickle", "json"])
def test_foreign_files_are_refused(tmp_path: Path, kind: str) -> None:
    _foreign(kind, tmp_path / "r")
    with pytest.raises(ValueError, match="not a file"):
        HSIAttributes.load(tmp_path / "r")
    assert not _Trap.sprung


def _rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")))
    change(header, arrays)
    with path.open("wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)


def test_newer_format_is_refused(tmp_path: Path) -> None:
    result().save(tmp_path / "r")
    _rewritten(tmp_path / "r", lambda header, arrays: header.update(format_version=3, package_version="9.9"))
    with pytest.raises(ValueError, match=r"format 3.*9\.9"):
        HSIAttributes.load(tmp_path / "r")


@pytest.mark.parametrize(
    "change",
    [
        lambda header, arrays: header["fields"].pop("score"),
        lambda header, arrays: header["fields"].update(orientation="CHH"),
        lambda header, arrays: header["fields"].update(target=["pickle", "x"]),
        lambda header, arrays: header.update({"class": "Trap"}),
        lambda header, arrays: header.update(format_version="new"),
        lambda header, arrays: header["arrays"]["image"].update(dtype="float32"),
        lambda header, arrays: header["arrays"]["image"].update(dtype="save"),
        lambda header, arrays: header["arrays"]["attributes"].update(shape=[9, 9, 9]),
        lambda header, arrays: arrays.pop("image"),
        lambda header, arrays: arrays.update(image=np.array([None, "x"], dtype=object)),
        lambda header, arrays: arrays.update(wavelengths=np.ones(3)),
    ],
)
def test_inconsistent_files_are_refused(tmp_path: Path, change: Callable[..., None]) -> None:
    result().save(tmp_path / "r")
    _rewritten(tmp_path / "r", change)
    with pytest.raises(ValueError, match="damaged"):
        HSIAttributes.load(tmp_path / "r")


def test_report_of_another_version(tmp_path: Path) -> None:
    result(report=REPORT).save(tmp_path / "r")

    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        pairs = header["fields"]["report"][1]
        pairs[:] = [*(pair for pair in pairs if pair[0] != "shortcut_declined"), ["unheard_of", 1]]

    _rewritten(tmp_path / "r", change)
    report = HSIAttributes.load(tmp_path / "r").report
    assert (report.evaluations, report.seconds_in_model, report.shortcut_declined) == (7, 1 / 3, None)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    result().save(tmp_path / "r")
    whole = (tmp_path / "r").read_bytes()
    for length in [*range(4, len(whole), 97), len(whole) - 1]:
        (tmp_path / "r").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged"):
            HSIAttributes.load(tmp_path / "r")


def test_no_damaged_byte_goes_unnoticed(tmp_path: Path) -> None:
    """A file with one wrong byte is refused, or the byte carried nothing (such as a date)."""
    saved = HSIAttributes(
        hsi=HSI(image=torch.tensor([[[0.25]], [[0.5]]]), wavelengths=WAVELENGTHS[:2]),
        attributes=torch.tensor([[[1.5]], [[-2.5]]]),
    )
    saved.save(tmp_path / "r")
    whole = (tmp_path / "r").read_bytes()
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        (tmp_path / "r").write_bytes(damaged)
        try:
            assert HSIAttributes.load(tmp_path / "r") == saved, position
        except ValueError as error:
            refused += 1
            assert "is damaged" in str(error) or "is not a file written by" in str(error)  # noqa: PT017
    assert refused > 0.8 * len(whole)


def test_standard_error_belongs_to_the_result() -> None:
    error = values(5)
    made = result(standard_error=error.numpy())
    turned = made.change_orientation("HWC")
    assert turned.standard_error is not None
    assert torch.equal(turned.standard_error, error.permute(1, 2, 0))
    assert made != result()
    assert result().standard_error is None
    with pytest.raises(ValueError, match=r"standard_error .*\(5, 4, 3\).*\(4, 3\)"):
        result(standard_error=error[0])
    with pytest.raises(TypeError, match="standard_error"):
        result(standard_error="wide")
