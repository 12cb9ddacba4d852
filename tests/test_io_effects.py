"""What was found of each feature, on disk and in copies: as it was, bit by bit."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import HSI
from meteors_c.attr import FeatureAblation, HSIAttributes, HSIAttributesSpatial, KernelShap, Lime, SegmentMean
from meteors_c.attr.effects import FeatureEffects
from meteors_c.models.linear import SkLearnRidge
from tests.attr.surrogates import Exact, whole_cube
from tests.toys import ORIENTATIONS, ROWS, SHAPE, WAVELENGTHS, cube, explainable, smooth, spatial_mask, values

ROWS_OF_PIXELS = torch.arange(ROWS)[:, None].expand(ROWS, 3) * 10


def lime(**arguments: Any) -> Any:
    hsi = HSI(image=whole_cube().image, wavelengths=WAVELENGTHS, binary_mask=spatial_mask())
    return Lime(explainable(Exact()), SkLearnRidge(alpha=0.1)).get_spatial_attributes(
        hsi, ROWS_OF_PIXELS, **{"target": 0, "n_samples": 30, "standard_errors": 20, **arguments}
    )


def shap() -> Any:
    return KernelShap(explainable(smooth())).get_spatial_attributes(
        cube(), ROWS_OF_PIXELS, target=0, interactions=True, baseline=SegmentMean()
    )


def made_up() -> HSIAttributes:
    """Numbers that are hard to keep, and tensors of whatever shape."""
    effects = FeatureEffects(
        ids=torch.tensor([-(2**62), 2**62]),
        values=torch.tensor([float("nan"), -0.0], dtype=torch.float64),
        standard_errors=torch.zeros(2, dtype=torch.float64),
        interactions=values(3, shape=(2, 2)),
        baseline_output=float("-inf"),
        output=0.1 + 0.2,
        score=float("nan"),
        score_interval=(-1.5, float("nan")),
        missing="ein Bild, ☁",
        samples=2**40,
        seed=2**61 + 1,
        coalitions=torch.ones(0, 2, dtype=torch.uint8),
    )
    return HSIAttributes(hsi=cube(), attributes=values(1), effects=effects)


def one_value() -> HSIAttributes:
    """A feature, a sample: all axes have size 1."""
    effects = FeatureEffects(torch.tensor([7]), torch.tensor([1.5], dtype=torch.float64), coalitions=torch.ones(1, 1))
    return HSIAttributes(hsi=cube(), attributes=values(1), effects=effects)


RESULTS = [lime, shap, made_up, one_value]


def exactly(a: FeatureEffects, b: FeatureEffects) -> bool:
    """Whether all fields are of the same type and bits."""
    for field in dataclasses.fields(FeatureEffects):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if type(one) is not type(other):
            return False
        if isinstance(one, torch.Tensor):
            same = one.dtype == other.dtype and one.shape == other.shape
            if not same or one.numpy().tobytes() != other.numpy().tobytes():
                return False
        elif repr(one) != repr(other):
            return False
    return True


@pytest.mark.parametrize("make", RESULTS)
def test_effects_are_saved_and_loaded(make: Callable[[], HSIAttributes], tmp_path: Path) -> None:
    saved = make()
    saved.save(tmp_path / "r.npz")
    loaded = HSIAttributes.load(tmp_path / "r.npz")
    assert type(loaded) is type(saved)
    assert loaded == saved
    assert loaded.effects is not None
    assert saved.effects is not None
    assert exactly(loaded.effects, saved.effects)
    loaded.effects.values[0] = 3.0  # its memory is its own, and may be written to
    assert loaded != saved


@pytest.mark.parametrize("make", RESULTS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["deepcopy", "pickle"])
def test_copies_hold_the_same_and_share_nothing(make: Callable[[], Any], copied: Callable[[Any], Any]) -> None:
    result = make()
    twin = copied(result)
    assert twin == result
    assert exactly(twin.effects, result.effects)
    twin.effects.values[0] = 3.0
    assert twin != result
    assert twin.effects != result.effects


@pytest.mark.parametrize(
    "change",
    [
        {"values": torch.zeros(ROWS, dtype=torch.float64)},
        {"standard_errors": None},
        {"missing": "another"},
        {"score_interval": (0.0, 1.0)},
        {"seed": 1},
        {"outputs": torch.zeros(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_counts_in_comparisons(change: dict[str, Any]) -> None:
    result = lime()
    other = copy.copy(result)
    other.effects = dataclasses.replace(result.effects, **change)
    assert other.effects != result.effects
    assert other != result
    assert result.effects != "effects"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_effects_have_no_orientation(orientation: str, tmp_path: Path) -> None:
    result = lime()
    turned = result.change_orientation(orientation)
    assert turned.effects == result.effects
    turned.save(tmp_path / "r.npz")
    assert HSIAttributes.load(tmp_path / "r.npz") == turned
    assert turned.to("cpu").effects == result.effects


def test_what_was_saved_can_be_continued(tmp_path: Path) -> None:
    torch.manual_seed(3)
    lime(n_samples=12).save(tmp_path / "r.npz")
    loaded = HSIAttributes.load(tmp_path / "r.npz")
    longer = lime(n_samples=25, continue_from=loaded)
    torch.manual_seed(3)
    assert longer == lime(n_samples=25)


# ---------------------------------------------------------------- the file


def header_of(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["header"]))


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> None:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")))
    change(header, arrays)
    with open(path, "wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)


def test_older_versions_read_files_without_effects(tmp_path: Path) -> None:
    """Only what they can't know has the new version."""
    plain = FeatureAblation(explainable(smooth())).attribute(cube(), target=0)
    assert plain.effects is None
    plain.save(tmp_path / "plain.npz")
    assert header_of(tmp_path / "plain.npz")["format_version"] == 1
    assert "effects" not in header_of(tmp_path / "plain.npz")["fields"]
    assert HSIAttributes.load(tmp_path / "plain.npz").effects is None
    lime().save(tmp_path / "lime.npz")
    assert header_of(tmp_path / "lime.npz")["format_version"] == 2
    with np.load(tmp_path / "lime.npz", allow_pickle=False) as file:
        assert file["effects.ids"].tolist() == [0, 10, 20, 30]
        assert file["effects.coalitions"].dtype == np.uint8


@pytest.mark.parametrize(
    "change",
    [
        lambda header, arrays: header["arrays"].pop("effects.values"),
        lambda header, arrays: header["fields"].update(effects=["dict", ["unheard_of", 1]]),
        lambda header, arrays: header["fields"].update(effects=3),
        lambda header, arrays: arrays.pop("effects.ids"),
    ],
)
def test_inconsistent_effects_are_refused(tmp_path: Path, change: Callable[..., None]) -> None:
    lime().save(tmp_path / "r")
    rewritten(tmp_path / "r", change)
    with pytest.raises(ValueError, match="damaged"):
        HSIAttributes.load(tmp_path / "r")


def test_something_else_as_effects_is_refused(tmp_path: Path) -> None:
    result = HSIAttributesSpatial(hsi=cube(), attributes=values(1))
    result.effects = {"values": 1}  # type: ignore[assignment]
    with pytest.raises(TypeError, match="effects"):
        result.save(tmp_path / "r")
    assert not (tmp_path / "r").exists()
    assert result.attributes.shape == SHAPE
