"""HSI: what it is made of, get_image and orientation, and what may go wrong."""

from __future__ import annotations

import array
import gc
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
from tests.images import DTYPES, ORIENTATIONS, WAVELENGTHS, image, make, permuted

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
        HSI(image=image(), wavelengths=WAVELENGTHS, colour="red", size=3)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="colour"):
            make(colour="red")


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
