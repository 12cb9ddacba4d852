"""HSI as a Python value: assignment, copies, pickles, ==, repr, memory; and its checks under their own names."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import pickle
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import hsi as hsi_module
from meteors_c.exceptions import DeviceError, OrientationError, ShapeMismatchError
from meteors_c.hsi import HSI

WAVELENGTHS = [462.0, 500.0, 530.0, 550.0, 580.0, 600.0, 640.0, 660.0, 700.0, 850.0]


def image() -> torch.Tensor:
    """Random values with a corner of zeros, (10, 4, 5)."""
    values = torch.rand(10, 4, 5) + 0.1
    values[:, :2, :2] = 0
    return values


def make(**changes: Any) -> HSI:
    return HSI(**{"image": image(), "wavelengths": WAVELENGTHS, **changes})


# ---------------------------------------------------------------- assignment


def test_fields_can_be_replaced_in_turn() -> None:
    hsi = make(binary_mask=torch.ones(4, 5))
    hsi.image = np.ones((3, 6, 7))
    hsi.binary_mask = torch.zeros(6, 7)
    with pytest.raises(ShapeMismatchError, match="10 wavelengths and 3 bands"):
        hsi.get_rgb_image()
    hsi.wavelengths = [500, 550, 650]
    assert torch.equal(hsi.get_image(), torch.zeros(3, 6, 7, dtype=torch.float64))

    hsi = make()
    hsi.binary_mask = torch.zeros(10, 6, 7)  # for the image that comes next
    assert hsi.binary_mask.shape == (10, 6, 7)
    with pytest.raises(ShapeMismatchError):
        hsi.get_image()
    hsi.image = torch.ones(10, 6, 7)
    assert hsi.get_image().sum() == 0
    hsi.binary_mask = None
    assert hsi.binary_mask.all()
    assert hsi.get_image().sum() == 420


def test_every_setter_checks_its_own_value() -> None:
    hsi = make()
    state = pickle.dumps(hsi)
    for name, value, error in [
        ("image", [1], TypeError),
        ("wavelengths", "x", TypeError),
        ("orientation", "CCC", OrientationError),
        ("device", "nowhere", DeviceError),
        ("binary_mask", "clouds", ValueError),
        ("binary_mask", 3, TypeError),
        ("wavelengths", [400.0, -1.0], ValueError),
    ]:
        with pytest.raises(error):
            setattr(hsi, name, value)
        with pytest.raises(AttributeError):
            delattr(hsi, name)
    assert hsi == pickle.loads(state)
    hsi.orientation = "CWH"
    assert hsi.orientation == ("C", "W", "H")
    hsi.binary_mask = "artificial"
    assert not hsi.binary_mask.all()
    hsi.name = "field 7"  # type: ignore[attr-defined]
    assert vars(hsi) == {"name": "field 7"}
    with pytest.raises(AttributeError):
        hsi.spectral_axis = 2  # type: ignore[misc]


# ---------------------------------------------------------------- a Python value


class Scene(HSI):
    """A class of a user."""

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.name = name


COPIES = {
    "copy": copy.copy,
    "model_copy": HSI.model_copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda hsi: pickle.loads(pickle.dumps(hsi)),
    "pickle 2": lambda hsi: pickle.loads(pickle.dumps(hsi, protocol=2)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("mask", [None, "artificial"])
def test_copies(how: str, mask: str | None) -> None:
    hsi = Scene("a field", image=image(), wavelengths=WAVELENGTHS, binary_mask=mask)
    twin = COPIES[how](hsi)
    assert type(twin) is Scene
    assert twin is not hsi
    assert twin == hsi
    assert twin.name == "a field"
    shallow = how in ("copy", "model_copy")
    assert (twin.image is hsi.image) == shallow
    assert (twin.wavelengths is hsi.wavelengths) == shallow
    twin.name = "another"
    twin.orientation = "CWH"
    assert hsi.name == "a field"
    assert hsi.orientation == ("C", "H", "W")


def test_model_copy_options() -> None:
    hsi = make()
    twin = hsi.model_copy(update={"wavelengths": range(1, 11)}, deep=True)
    assert twin.wavelengths.tolist() == list(range(1, 11))
    assert twin.image is not hsi.image
    with pytest.raises(TypeError, match="update"):
        hsi.model_copy(update=[1])  # type: ignore[arg-type]
    with pytest.raises(OrientationError):
        hsi.model_copy(update={"orientation": "X"})


def test_equality() -> None:
    values = image()
    hsi = make(image=values)
    assert hsi == hsi
    assert hsi == make(image=values.clone())
    assert hsi == make(image=values, binary_mask=torch.ones(10, 4, 5))
    assert hsi != make(image=values + 1)
    assert hsi != make(image=values.double())
    assert hsi != make(image=values, wavelengths=range_list())
    assert hsi != make(image=values, binary_mask="artificial")
    assert hsi != make(image=values, orientation="CWH")
    assert hsi != HSI(image=values[:, :3], wavelengths=WAVELENGTHS)
    assert hsi != 3
    assert (hsi == None) is False  # noqa: E711
    with pytest.raises(TypeError):
        hash(hsi)
    with pytest.raises(TypeError):
        hsi < hsi  # type: ignore[operator]  # noqa: B015


def range_list() -> list[int]:
    return list(range(1, 11))


def test_repr_is_short() -> None:
    text = repr(HSI(image=torch.rand(150, 30, 20), wavelengths=np.linspace(462.08, 938.37, 150)))
    assert text == (
        "HSI(shape=(150, 30, 20), dtype=torch.float32, orientation=CHW, wavelengths=462.08-938.37 nm, device=cpu, "
        "masked=False)"
    )
    assert repr(Scene("x", image=image(), wavelengths=WAVELENGTHS)).startswith("Scene(shape=(10, 4, 5)")


def test_documentation_is_reachable() -> None:
    assert list(inspect.signature(HSI).parameters) == [
        "image", "wavelengths", "orientation", "device", "binary_mask", "wavelength_unit", "georeference", "source",
    ]  # fmt: skip
    assert inspect.signature(HSI).parameters["orientation"].default == ("C", "H", "W")
    assert HSI.__module__ == "meteors_c.hsi"
    for name in (
        "to",
        "get_image",
        "change_orientation",
        "extract_band_by_name",
        "get_rgb_image",
        "get_picture",
        "model_copy",
    ):
        method = getattr(HSI, name)
        assert "Returns" in method.__doc__
        assert next(iter(inspect.signature(method).parameters)) == "self"
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(HSI.extract_band_by_name).parameters.items()
    }
    assert defaults["selection_method"] == "center"
    assert (defaults["apply_mask"], defaults["apply_min_cutoff"], defaults["normalize"]) == (True, False, True)


def test_an_object_without_init() -> None:
    bare = HSI.__new__(HSI)
    assert "not initialised" in repr(bare)
    for use in (
        lambda: bare.image,
        lambda: bare.get_image(),
        lambda: bare.spectral_axis,
        lambda: bare.to("cpu"),
        lambda: bare.change_orientation("HWC"),
        lambda: pickle.dumps(bare),
        lambda: bare.get_rgb_image(),
        lambda: bare.get_picture(),
        lambda: setattr(bare, "orientation", "HWC"),
    ):
        with pytest.raises(AttributeError, match="__init__"):
            use()
    assert bare != make()


def test_a_failing_second_init_changes_nothing() -> None:
    hsi = make()
    before = hsi.image
    with pytest.raises(ShapeMismatchError):
        hsi.__init__(image=torch.rand(3, 3, 3), wavelengths=[1])  # type: ignore[misc]
    assert hsi.image is before


def test_a_broken_state_is_refused() -> None:
    hsi = make()
    for state in (None, (), ((1, 2, 3, 4, 5), None), ((hsi.image, hsi.wavelengths, "CHW", "cpu", None), 3)):
        with pytest.raises((TypeError, ValueError)):
            hsi.__setstate__(state)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- memory


def test_weak_references_and_cycles() -> None:
    hsi = make()
    hsi.itself = hsi  # type: ignore[attr-defined]
    alive = weakref.ref(hsi)
    assert alive() is hsi
    del hsi
    gc.collect()
    assert alive() is None


def test_nothing_is_leaked() -> None:
    values, wavelengths, mask = image(), torch.tensor(WAVELENGTHS), torch.rand(4, 5) > 0.5
    read_only = mask.numpy().copy()
    read_only.flags.writeable = False

    def use() -> None:
        hsi = make(image=values, wavelengths=wavelengths, binary_mask=mask)
        hsi.change_orientation("WHC").get_rgb_image(apply_min_cutoff=True)
        hsi.change_orientation("HWC", inplace=True).to("cpu").get_picture()
        HSI(image=values, wavelengths=range(900, 910)).get_picture()
        _ = hsi.get_image(), hsi.spatial_binary_mask, repr(hsi), hsi == copy.deepcopy(hsi), copy.copy(hsi)
        hsi.binary_mask = read_only
        hsi.binary_mask = [[True] * 5] * 4
        hsi.binary_mask = "artificial"
        hsi.image, hsi.wavelengths, hsi.device = hsi.image, hsi.wavelengths, "cpu"
        for bad in ("image", "wavelengths", "orientation", "device", "binary_mask"):
            with contextlib.suppress(TypeError, ValueError):
                make(**{bad: object()})
        with contextlib.suppress(ValueError):
            make(image=values, wavelengths=[1.0])
        for bad in (torch.ones(3, 3), torch.full((4, 5), float("nan"))):
            with contextlib.suppress(ValueError):
                make(binary_mask=bad)
        with contextlib.suppress(ValueError):
            HSI(image=values[:4, :, :4], wavelengths=range(1, 5), orientation="HWC", binary_mask=torch.ones(4, 4))

    things = (values, wavelengths, mask, read_only, HSI, torch.bool, torch.float32)

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(thing) for thing in things]

    for _ in range(100):  # caches fill
        use()
    before, blocks = counts(), sys.getallocatedblocks()
    for _ in range(1000):
        use()
    assert counts() == before
    assert sys.getallocatedblocks() - blocks < 500  # one object a round would be 1000


# ---------------------------------------------------------------- the checks by name


def test_helpers_check_one_thing_each() -> None:
    assert hsi_module.get_channel_axis("HWC") == 2
    assert hsi_module.validate_orientation(["H", "C", "W"]) == ("H", "C", "W")
    with pytest.raises(ValueError, match="orientation"):
        hsi_module.validate_orientation("ABC")
    with pytest.raises(ValueError, match="orientation"):
        hsi_module.get_channel_axis("HHW")

    flat = np.ones((2, 3), np.float32)
    assert hsi_module.ensure_image_tensor(flat).shape == (2, 3)  # how many axes is the constructor's question
    with pytest.raises(TypeError, match="Image must be"):
        hsi_module.ensure_image_tensor([1, 2])
    assert hsi_module.ensure_wavelengths_tensor((1.0, 2.0)).dtype == torch.float32
    with pytest.raises(TypeError, match="wavelengths"):
        hsi_module.ensure_wavelengths_tensor("blue")

    wavelengths = torch.tensor(WAVELENGTHS)
    hsi_module.validate_shapes(wavelengths, image(), 0)
    with pytest.raises(ShapeMismatchError, match="10 wavelengths and 4 bands"):
        hsi_module.validate_shapes(wavelengths, image(), 1)


def test_helpers_that_read_what_was_checked_before() -> None:
    full = SimpleNamespace(data={"image": image(), "orientation": ("C", "H", "W"), "device": torch.device("cpu")})
    empty = SimpleNamespace(data={})
    device = hsi_module.resolve_inference_device_hsi
    assert device(None, full) == torch.device("cpu")
    assert device("cpu", empty) == torch.device("cpu")
    with pytest.raises(RuntimeError, match="image"):
        device(None, empty)
    with pytest.raises(ValueError, match="nowhere"):
        device("nowhere", full)
    with pytest.raises(TypeError, match="device"):
        device(3, full)  # type: ignore[arg-type]

    mask = hsi_module.process_and_validate_binary_mask
    assert mask(None, full).all()
    assert mask(None, full).shape == (10, 4, 5)
    assert torch.equal(mask(np.ones((4, 5)), full), torch.ones(10, 4, 5, dtype=torch.bool))
    assert torch.equal(mask("artificial", full), (full.data["image"][:1] != 0).expand(10, 4, 5))
    with pytest.raises(ShapeMismatchError):
        mask(torch.ones(3, 3), full)
    with pytest.raises(ValueError, match="clouds"):
        mask("clouds", full)
    with pytest.raises(RuntimeError, match="orientation"):
        mask(None, SimpleNamespace(data={"image": image()}))
    for info in (full, empty):
        with pytest.raises(TypeError, match="Binary mask must be"):
            mask(3, info)
