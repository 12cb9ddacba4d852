"""HSI: what it is made of, masks, get_image and orientation, and what may go wrong."""

from __future__ import annotations

import array
import ast
import gc
import itertools
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from meteors_c import attr, models
from meteors_c.exceptions import DeviceError, OrientationError, ShapeMismatchError, ValidationError
from meteors_c.hsi import HSI

WAVELENGTHS = [462.0, 500.0, 530.0, 550.0, 580.0, 600.0, 640.0, 660.0, 700.0, 850.0]
ORIENTATIONS = ["".join(letters) for letters in itertools.permutations("CHW")]
DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.uint64,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]


def image() -> torch.Tensor:
    """Random values with a corner of zeros, (10, 4, 5)."""
    values = torch.rand(10, 4, 5) + 0.1
    values[:, :2, :2] = 0
    return values


def permuted(tensor: torch.Tensor, orientation: str) -> torch.Tensor:
    return tensor.permute(["CHW".index(letter) for letter in orientation])


def make(**changes: Any) -> HSI:
    return HSI(**{"image": image(), "wavelengths": WAVELENGTHS, **changes})


# ---------------------------------------------------------------- images in


def test_a_tensor_is_the_very_image() -> None:
    values = image()
    assert make(image=values).image is values


def test_an_array_shares_its_memory() -> None:
    values = image().numpy()
    hsi = make(image=values)
    values[3, 2, 1] = 77
    assert hsi.image[3, 2, 1] == 77
    assert hsi.image.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_arrays_of_every_real_dtype(dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    hsi = HSI(image=values, wavelengths=[1, 2])
    assert hsi.image.numpy().dtype == values.dtype
    np.testing.assert_array_equal(hsi.image.numpy(), values)


@pytest.mark.parametrize("dtype", [">i2", ">u4", ">f4", ">f8"])
def test_big_endian_arrays_are_converted(dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    np.testing.assert_array_equal(HSI(image=values, wavelengths=[1, 2]).image.numpy(), values)


def test_any_strides() -> None:
    base = np.random.default_rng(0).random((6, 8, 10))
    record = np.zeros((2, 3, 4), dtype=[("pad", "u1"), ("value", "f4")])
    record["value"] = np.random.default_rng(0).random((2, 3, 4))
    for values in (base[::-1, :, ::-2], base[::2, 1::3, ::5], base.transpose(2, 0, 1), record["value"]):
        hsi = HSI(image=values, wavelengths=range(1, values.shape[0] + 1))
        np.testing.assert_array_equal(hsi.image.numpy(), values)
        np.testing.assert_array_equal(hsi.get_image().numpy(), values)


def test_read_only_memory_is_shared_without_a_warning() -> None:
    values = np.random.default_rng(0).random((2, 3, 4))
    values.flags.writeable = False
    memory = memoryview(bytes(range(24))).cast("B", (2, 3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hsi = HSI(image=values, wavelengths=[1, 2])
        from_bytes = HSI(image=memory, wavelengths=[1, 2])
        turned = HSI(image=values.transpose(1, 2, 0)[::2], wavelengths=[1, 2], orientation="HWC")
    assert hsi.image.data_ptr() == values.ctypes.data
    assert hsi.get_image(apply_mask=False).data_ptr() == values.ctypes.data
    assert turned.image.data_ptr() == values.ctypes.data
    assert not values.flags.writeable
    assert from_bytes.image.data_ptr() == np.asarray(memory).ctypes.data
    assert from_bytes.image[1, 2, 3] == 23
    expected = torch.tensor(values.tolist(), dtype=torch.float64)
    del values  # the tensor keeps the array alive
    gc.collect()
    assert torch.equal(hsi.image, expected)


def test_values_that_are_not_aligned_are_copied() -> None:
    raw = np.zeros(2 * 3 * 4 * 4 + 1, np.uint8)
    values = raw[1:].view(np.float32).reshape(2, 3, 4)
    assert not values.flags.aligned
    hsi = HSI(image=values, wavelengths=[1, 2])
    assert hsi.image.data_ptr() != values.ctypes.data
    assert torch.equal(hsi.get_image(), torch.zeros(2, 3, 4))


RESIDENT = """
import sys
import numpy as np
import torch
import meteors_c as mt

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

def build(path, shape):
    values = np.memmap(path, dtype=np.float32, mode="r", shape=shape)
    return values, mt.HSI(image=values, wavelengths=range(1, shape[0] + 1))

build(sys.argv[1], (64, 1, 1))[1].get_picture()  # what is loaded once
before = resident()
values, hsi = build(sys.argv[1], (64, 512, 512))
raw = hsi.get_image(apply_mask=False)
hsi.change_orientation("HWC")
picture, note = hsi.get_picture()
assert hsi.image.data_ptr() == values.ctypes.data == raw.data_ptr()
print((resident() - before) / values.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_mapped_file_is_not_copied(tmp_path: Path) -> None:
    np.zeros((64, 512, 512), np.float32).tofile(tmp_path / "image.raw")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RESIDENT, str(tmp_path / "image.raw")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.25  # of the 64 MiB of the file


class Copies(TorchDispatchMode):
    """Names the operators of torch whose results are tensors of a size, views inside a mode included."""

    def __init__(self, numel: int) -> None:
        super().__init__()
        self.numel, self.names = numel, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() == self.numel and result._base is None:
            self.names.append(func.overloadpacket.__name__)
        return result


@pytest.mark.parametrize("orientation", ["CHW", "HWC"])
def test_reading_an_image_makes_no_copy_on_the_way(orientation: str) -> None:
    values = np.ones((10, 4, 5), np.float32)
    values.flags.writeable = False
    hsi = make(image=values, binary_mask=torch.rand(4, 5) > 0.5).change_orientation(orientation)
    with Copies(values.size) as copies:
        hsi.get_image()
    assert set(copies.names) <= {"empty", "detach", "expand"}  # the result, and views
    assert copies.names.count("empty") == 1


def test_buffers_and_dlpack() -> None:
    class OnlyDLPack:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __dlpack__(self, **keywords: Any) -> Any:
            return self.tensor.__dlpack__(**keywords)

        def __dlpack_device__(self) -> Any:
            return self.tensor.__dlpack_device__()

    values = image()
    hsi = make(image=OnlyDLPack(values))
    assert hsi.image.data_ptr() == values.data_ptr()

    memory = memoryview(array.array("h", range(24))).cast("B").cast("h", (2, 3, 4))
    hsi = HSI(image=memory, wavelengths=[1, 2])
    assert hsi.image.dtype == torch.int16
    assert hsi.image[1, 2, 3] == 23
    memory[1, 2, 3] = -5
    assert hsi.image[1, 2, 3] == -5


class _BadDLPack:
    def __dlpack__(self, **keywords: Any) -> Any:
        raise BufferError("not today")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


NO_IMAGES: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (None, TypeError, "Image must be"),
    "list": ([[[1.0]]], TypeError, "not list"),
    "str": ("image", TypeError, "Image must be"),
    "bytes": (b"12345678", TypeError, "3-D"),
    "class": (torch.Tensor, TypeError, "Image must be"),
    "2-D": (torch.rand(10, 4), TypeError, r"3-D.*\[10, 4\]"),
    "4-D": (np.zeros((1, 10, 4, 5)), TypeError, r"3-D.*\[1, 10, 4, 5\]"),
    "empty": (torch.zeros(10, 0, 5), ValidationError, r"\[10, 0, 5\]"),
    "complex tensor": (torch.zeros(10, 4, 5, dtype=torch.complex64), TypeError, "complex64"),
    "complex array": (np.zeros((10, 4, 5), np.complex128), TypeError, "complex128"),
    "object array": (np.zeros((10, 4, 5), object), TypeError, "object"),
    "text array": (np.zeros((10, 4, 5), "U3"), TypeError, "real numbers"),
    "dates": (np.zeros((10, 4, 5), "M8[s]"), TypeError, "datetime64"),
    "long double": (np.zeros((10, 4, 5), np.longdouble), TypeError, "real numbers"),
    "masked array": (np.ma.masked_array(np.zeros((10, 4, 5))), TypeError, "binary_mask"),
    "sparse": (torch.zeros(10, 4, 5).to_sparse(), TypeError, "to_dense"),
    "meta": (torch.zeros(10, 4, 5, device="meta"), DeviceError, "meta"),
    "broken DLPack": (_BadDLPack(), TypeError, "DLPack"),
}


@pytest.mark.parametrize("case", NO_IMAGES)
def test_what_is_no_image_is_refused_in_words(case: str) -> None:
    value, error, words = NO_IMAGES[case]
    with pytest.raises(error, match=words):
        make(image=value)
    hsi = make()
    before = hsi.image
    with pytest.raises(error, match=words):
        hsi.image = value
    assert hsi.image is before


def test_nan_is_allowed() -> None:
    values = image()
    values[0, 3, 3] = float("nan")
    assert torch.isnan(make(image=values).get_image()[0, 3, 3])


# ---------------------------------------------------------------- the other arguments


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (WAVELENGTHS, torch.float32),
        (tuple(WAVELENGTHS), torch.float32),
        (list(range(1, 11)), torch.int64),
        (range(500, 600, 10), torch.int64),
        (np.array(WAVELENGTHS), torch.float64),
        (np.arange(1, 11, dtype=">i2"), torch.int16),
        (torch.arange(1, 11, dtype=torch.int32), torch.int32),
        ([np.float64(w) for w in WAVELENGTHS], torch.float64),
    ],
)
def test_wavelengths_keep_their_dtype(given: Any, dtype: torch.dtype) -> None:
    wavelengths = make(wavelengths=given).wavelengths
    assert wavelengths.shape == (10,)
    assert wavelengths.dtype == dtype
    assert wavelengths.tolist() == pytest.approx([float(w) for w in given])


@pytest.mark.parametrize("given", ["visible", None, 3.0, {1.0}, ["red"] * 10, [None] * 10, [1j] * 10])
def test_what_is_no_wavelengths(given: Any) -> None:
    with pytest.raises(TypeError, match="wavelengths"):
        make(wavelengths=given)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0, -1, True, np.bool_(True)])
def test_wavelengths_are_positive_finite_numbers(bad: Any) -> None:
    error = TypeError if isinstance(bad, (bool, np.bool_)) else ValidationError
    given = [*WAVELENGTHS[:3], bad, *WAVELENGTHS[4:]]
    with pytest.raises(error, match=r"wavelengths\[3\] is"):
        make(wavelengths=given)
    hsi = make()
    if error is ValidationError:  # arrays of numbers have no bools inside
        for kind in (np.array, torch.tensor):
            with pytest.raises(error, match=r"wavelengths\[3\] is"):
                hsi.wavelengths = kind(given)
    assert hsi.wavelengths.tolist() == pytest.approx(WAVELENGTHS)
    for kind in (np.ones, torch.ones):
        with pytest.raises(TypeError, match=r"wavelengths\[0\]"):
            make(wavelengths=kind(10, dtype=bool if kind is np.ones else torch.bool))


def test_wavelengths_must_fit() -> None:
    with pytest.raises(ShapeMismatchError, match=r"3 wavelengths.*10\s+bands"):
        make(wavelengths=WAVELENGTHS[:3])
    with pytest.raises(ShapeMismatchError, match="10 wavelengths and 5 bands"):
        make(orientation="HWC")
    with pytest.raises(ShapeMismatchError, match=r"1-D.*\(10, 1\)"):
        make(wavelengths=torch.rand(10, 1))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientations(orientation: str) -> None:
    for given in (orientation, list(orientation), tuple(orientation)):
        hsi = make(image=permuted(image(), orientation), orientation=given)
        assert hsi.orientation == tuple(orientation)
        assert hsi.spectral_axis == orientation.index("C")


@pytest.mark.parametrize(
    "given", ["CCH", "chw", "CH", "CHWC", "", 3, None, {"C", "H", "W"}, ("C", "H", 1), ("CH", "W")]
)
def test_what_is_no_orientation(given: Any) -> None:
    with pytest.raises(OrientationError, match="orientation") as caught:
        make(orientation=given)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RuntimeError)
    hsi = make()
    with pytest.raises(OrientationError):
        hsi.orientation = given
    with pytest.raises(ValueError, match="orientation"):
        hsi.change_orientation(given, inplace=True)
    assert hsi.orientation == ("C", "H", "W")
    assert hsi.image.shape == (10, 4, 5)


def test_devices() -> None:
    assert make().device == torch.device("cpu")
    assert make(device="cpu").device == torch.device("cpu")
    assert make(device=torch.device("cpu")).device == torch.device("cpu")
    with pytest.raises(DeviceError, match="'gpu9'"):
        make(device="gpu9")
    with pytest.raises(TypeError, match="device must be"):
        make(device=3)
    with pytest.raises(DeviceError, match="meta"):
        make(device="meta")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="cuda"):
        make(device="cuda")
    hsi = make()
    before = hsi.image
    with pytest.raises(DeviceError, match="cuda"):
        hsi.to("cuda")
    assert hsi.image is before
    assert hsi.device == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    values = image()
    here = make(image=values, binary_mask="artificial")
    there = make(image=values, binary_mask="artificial", device="cuda")
    assert there.image.is_cuda
    assert there.binary_mask.is_cuda
    assert torch.equal(there.binary_mask.cpu(), here.binary_mask)
    assert torch.equal(there.get_image().cpu(), here.get_image())
    rgb = there.get_rgb_image(apply_min_cutoff=True)
    assert rgb.is_cuda
    assert torch.equal(rgb.cpu(), here.get_rgb_image(apply_min_cutoff=True))
    assert there.to("cpu") == here


def test_to_returns_itself() -> None:
    hsi = make(binary_mask="artificial")
    assert hsi.to("cpu") is hsi
    assert hsi.to(torch.device("cpu")) is hsi
    for bad, error in (("nowhere", DeviceError), (3, TypeError), (None, TypeError)):
        with pytest.raises(error):
            hsi.to(bad)  # type: ignore[arg-type]


def test_keywords_only_and_required() -> None:
    with pytest.raises(TypeError, match="keyword"):
        HSI(image(), WAVELENGTHS)  # type: ignore[misc]
    with pytest.raises(ValidationError, match="wavelengths"):
        HSI(image=image())  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="image"):
        HSI(wavelengths=WAVELENGTHS)  # type: ignore[call-arg]


def test_unknown_arguments_warn_once_by_name() -> None:
    with pytest.warns(UserWarning, match="'colour', 'size'") as caught:
        make(colour="red", size=3)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="colour"):
            make(colour="red")


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_artificial_mask_follows_the_first_band(orientation: str) -> None:
    values = image()
    values[0, 3, 4] = 0
    values[1:, 0, 0] = 7  # only the first band counts
    hsi = make(image=permuted(values, orientation), orientation=orientation, binary_mask="artificial")
    expected = permuted((values[0] != 0).expand(10, 4, 5), orientation)
    assert hsi.binary_mask.dtype == torch.bool
    assert torch.equal(hsi.binary_mask, expected)
    spatial = hsi.spatial_binary_mask
    assert torch.equal(spatial, expected.select(orientation.index("C"), 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_artificial_mask_of_every_dtype(dtype: torch.dtype) -> None:
    values = image().gt(0).to(dtype)
    assert torch.equal(make(image=values, binary_mask="artificial").binary_mask, image().gt(0))


@pytest.mark.parametrize("shape", [(10, 4, 5), (4, 5), (10, 1, 1), (5,), (1, 4, 1), ()])
@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.int64, torch.uint16])
def test_masks_broadcast(shape: tuple[int, ...], kind: torch.dtype) -> None:
    mask = (torch.rand(shape) > 0.4).to(kind)
    expected = mask.bool().expand(10, 4, 5)
    for given in (mask, mask.numpy()):
        hsi = make(binary_mask=given)
        assert torch.equal(hsi.binary_mask, expected)
        assert torch.equal(hsi.get_image(), hsi.image * expected)


def test_masks_that_do_not_fit_or_are_none() -> None:
    for shape in ((3, 5), (1, 10, 4, 5), (10,)):
        with pytest.raises(ShapeMismatchError) as caught:
            make(binary_mask=torch.ones(shape))
        assert str(shape) in str(caught.value)
        assert "(10, 4, 5)" in str(caught.value)
    with pytest.raises(ValueError, match="'clouds'"):
        make(binary_mask="clouds")
    for value in (3, True, {1}, [[1, 0], [1]], ["a"]):
        with pytest.raises(TypeError, match="Binary mask must be"):
            make(binary_mask=value)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", [lambda mask: mask, lambda mask: mask.numpy(), lambda mask: mask.float().tolist()])
def test_two_axes_are_rows_and_columns_in_any_orientation(orientation: str, kind: Any) -> None:
    values = permuted(image(), orientation)
    axis = orientation.index("C")
    mask = torch.rand([size for a, size in enumerate(values.shape) if a != axis]) > 0.5
    hsi = make(image=values, orientation=orientation, binary_mask=kind(mask))
    assert torch.equal(hsi.binary_mask, mask.unsqueeze(axis).expand(values.shape))
    assert torch.equal(hsi.spatial_binary_mask, mask)
    assert torch.equal(hsi.get_image(), torch.where(mask.unsqueeze(axis), values, 0.0))
    hsi.binary_mask = None
    hsi.binary_mask = kind(mask)
    assert torch.equal(
        hsi.change_orientation("CHW").binary_mask, hsi.binary_mask.permute(*map(orientation.index, "CHW"))
    )


@pytest.mark.parametrize(
    ("orientation", "shape", "mask", "readings"),
    [
        ("HWC", (8, 8, 8), (8, 8), ("HW", "(8, 8, 1)", "WC", "(1, 8, 8)")),
        ("HWC", (8, 8, 8), (1, 8), ("HW", "(1, 8, 1)", "WC", "(1, 1, 8)")),
        ("HWC", (6, 6, 4), (6, 1), ("HW", "(6, 1, 1)", "WC", "(1, 6, 1)")),
        ("HCW", (8, 8, 5), (8, 5), ("HW", "(8, 1, 5)", "CW", "(1, 8, 5)")),
        ("CHW", (8, 5, 8), (8,), ("C", "(8, 1, 1)", "W", "(1, 1, 8)")),
        ("HCW", (4, 8, 8), (8,), ("C", "(1, 8, 1)", "W", "(1, 1, 8)")),
    ],
)
def test_a_mask_that_could_mean_two_things_is_refused(
    orientation: str, shape: tuple[int, ...], mask: tuple[int, ...], readings: tuple[str, ...]
) -> None:
    arguments: dict[str, Any] = {
        "image": torch.rand(shape), "wavelengths": range(400, 400 + shape[orientation.index("C")]),
        "orientation": orientation,
    }  # fmt: skip
    with pytest.raises(ShapeMismatchError, match="two things") as caught:
        HSI(**arguments, binary_mask=torch.ones(mask))
    for words in (str(mask), str(shape), *readings):
        assert words in str(caught.value)
    for sizes in (readings[1], readings[3]):  # what the message proposes is taken
        HSI(**arguments, binary_mask=torch.ones(ast.literal_eval(sizes)))


@pytest.mark.parametrize(
    ("orientation", "shape", "mask", "axes"),
    [
        ("CHW", (8, 8, 8), (8, 8), (1, 2)),  # both readings are one
        ("HWC", (4, 5, 6), (5, 6), (1, 2)),  # as broadcasting has it
        ("HWC", (4, 5, 6), (6,), (2,)),
        ("HWC", (4, 5, 6), (1, 6), (0, 2)),
        ("HCW", (4, 5, 6), (1, 6), (0, 2)),
        ("HWC", (4, 5, 5), (4, 5), (0, 1)),
        ("HWC", (4, 5, 6), (4, 1), (0, 1)),
        ("CHW", (8, 8, 5), (8, 5), (1, 2)),
    ],
)
def test_masks_with_one_reading(
    orientation: str, shape: tuple[int, ...], mask: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    values = torch.rand(mask) > 0.5
    sizes = [1, 1, 1]
    for axis, size in zip(axes, mask, strict=True):
        sizes[axis] = size
    hsi = HSI(
        image=torch.rand(shape),
        wavelengths=range(400, 400 + shape[orientation.index("C")]),
        orientation=orientation,
        binary_mask=values,
    )
    assert torch.equal(hsi.binary_mask, values.reshape(sizes).expand(shape))


def test_one_value_per_band_needs_three_axes() -> None:
    with pytest.raises(ShapeMismatchError, match=r"\(10,\).*\(10, 1, 1\)"):
        make(binary_mask=torch.ones(10))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_mask_of_floats_is_finite(dtype: torch.dtype) -> None:
    mask = torch.ones(4, 5, dtype=dtype)
    mask[0, :2] = math.nan
    mask[1, 0] = math.inf
    hsi = make()
    for use in (lambda: make(binary_mask=mask), lambda: setattr(hsi, "binary_mask", mask)):
        with pytest.raises(ValidationError, match="3 of its 20"):
            use()
    assert hsi.binary_mask.all()
    mask[0, :2], mask[1, 0] = -0.5, 0
    assert torch.equal(make(binary_mask=mask).spatial_binary_mask, mask != 0)


def test_without_a_mask_everything_is_used() -> None:
    hsi = make()
    assert hsi.binary_mask.all()
    assert hsi.binary_mask.shape == (10, 4, 5)
    assert hsi.binary_mask is hsi.binary_mask
    hsi.binary_mask[0, 3, 3] = False  # a mask that was looked at can be written to
    assert hsi.get_image()[0, 3, 3] == 0
    assert hsi.get_image()[0, 3, 4] != 0


# ---------------------------------------------------------------- get_image


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_get_image_is_image_times_mask(dtype: torch.dtype, orientation: str) -> None:
    values = (image() * 100).to(dtype)
    mask = torch.rand(10, 4, 5) > 0.5
    hsi = make(image=permuted(values, orientation), binary_mask=permuted(mask, orientation), orientation=orientation)
    got = hsi.get_image()
    assert got.dtype == dtype
    assert torch.equal(got.double(), permuted(values.double() * mask, orientation))
    assert hsi.get_image(apply_mask=False) is hsi.image
    whole = make(image=values).get_image()
    assert torch.equal(whole, values)
    assert whole.data_ptr() != values.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("graph", [False, True])
def test_what_is_under_the_mask_has_no_effect(dtype: torch.dtype, orientation: str, graph: bool) -> None:
    values, mask = image().to(dtype), torch.rand(10, 4, 5) > 0.5
    expected = torch.where(mask, values, 0)
    hidden = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype)[torch.randint(0, 3, mask.shape)]
    dirty = torch.where(mask, values, hidden)
    dirty[0, 0, 0] = expected[0, 0, 0] = math.nan  # used, so it stays
    mask[0, 0, 0] = True
    hsi = make(
        image=permuted(dirty, orientation).requires_grad_(graph),
        binary_mask=permuted(mask, orientation),
        orientation=orientation,
    )
    got = hsi.get_image()
    assert got.dtype == dtype
    assert torch.allclose(got, permuted(expected, orientation), rtol=0, atol=0, equal_nan=True)
    if graph:
        got.nan_to_num().sum().backward()
        assert hsi.image.grad is not None
        used = permuted(mask & ~expected.isnan(), orientation)
        assert torch.equal(hsi.image.grad, used.to(dtype))


@pytest.mark.parametrize("hidden", [math.nan, math.inf, -9999.0])
@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "IntegratedGradients", "Occlusion", "HyperNoiseTunnel"])
def test_what_is_under_the_mask_does_not_reach_a_model(name: str, hidden: float) -> None:
    mask = torch.rand(10, 4, 5) > 0.3
    values = image().double()
    model = models.ExplainableModel(lambda x: x.square().sum((1, 2, 3)).sqrt()[:, None], "regression")
    results = []
    for under in (0.0, hidden):
        hsi = make(image=torch.where(mask, values, under), binary_mask=mask)
        method = getattr(attr, name)(attr.Saliency(model) if name == "HyperNoiseTunnel" else model)
        torch.manual_seed(0)  # the tunnel draws from it
        explain = method.get_spatial_attributes if name == "Occlusion" else method.attribute
        results.append(explain(hsi, target=0).attributes)
    assert torch.equal(results[0], results[1])
    assert results[0].isfinite().all()


def test_get_image_is_differentiable() -> None:
    values = image().requires_grad_()
    mask = torch.rand(4, 5) > 0.5
    make(image=values, binary_mask=mask).get_image().sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, mask.expand(10, 4, 5).float())
    assert make(image=values).get_image().requires_grad


def test_lazily_negated_images() -> None:
    values = torch.complex(torch.zeros(10, 4, 5), image()).conj().imag
    assert values.is_neg()
    assert torch.equal(make(image=values).get_image(), values)


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("source", ORIENTATIONS)
@pytest.mark.parametrize("target", ORIENTATIONS)
def test_change_orientation(source: str, target: str) -> None:
    values, mask = image(), torch.rand(10, 4, 5) > 0.5
    hsi = make(image=permuted(values, source), binary_mask=permuted(mask, source), orientation=source)
    turned = hsi.change_orientation(target)
    assert turned is not hsi
    assert hsi.orientation == tuple(source)
    assert turned.orientation == tuple(target)
    assert torch.equal(turned.image, permuted(values, target))
    assert torch.equal(turned.binary_mask, permuted(mask, target))
    assert torch.equal(turned.get_image(), permuted(values * mask, target))
    assert turned.image.data_ptr() == values.data_ptr()
    assert turned.binary_mask.data_ptr() == mask.data_ptr()
    assert turned.wavelengths is hsi.wavelengths
    assert hsi.change_orientation(list(target), inplace=True) is hsi
    assert hsi == turned


def test_an_orientation_that_can_not_be_changed_leaves_all_as_it_was() -> None:
    hsi = make(binary_mask="artificial")
    hsi.image = torch.rand(10, 6, 7)
    before = hsi.image
    with pytest.raises(ShapeMismatchError, match=r"\(10, 4, 5\).*\(10, 6, 7\)"):
        hsi.change_orientation("HWC", inplace=True)
    assert hsi.image is before
    assert hsi.orientation == ("C", "H", "W")
