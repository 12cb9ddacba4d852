"""Models in files: what they are is told by their contents, and pickles are never read."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c.cli._errors import UsageError
from meteors_c.cli._models import format_of, load
from meteors_c.scenes._said import said
from tests.cli.conftest import BANDS, COLUMNS, OUTPUTS, ROWS, network, values, write_onnx


class Trap:
    """An object whose pickle does something when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.pt2", "torch.export"),
        ("static.pt2", "torch.export"),
        ("script.pt", "TorchScript"),
        ("linear.onnx", "ONNX"),
    ],
)
@pytest.mark.parametrize("suffix", [".bin", ".pkl", ".onnx", ""])
def test_contents_tell_the_format_whatever_the_name(
    folder: Path, tmp_path: Path, name: str, kind: str, suffix: str
) -> None:
    path = tmp_path / f"copy{suffix}"
    shutil.copy(folder / name, path)
    assert format_of(str(path)) == kind


@pytest.mark.parametrize("name", ["pickle.pt", "state.pt", "old.pt"])
def test_what_torch_save_writes_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.pt2"
    shutil.copy(folder / name, path)
    with pytest.raises(UsageError, match=r"pickle.*torch\.export\.save"):
        load(str(path))


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_pickles_are_refused_and_not_read(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "model.onnx", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Trap(mark), protocol=protocol))
    with pytest.raises(UsageError, match="pickle"):
        load(str(path))
    assert not mark.exists()


def test_pickles_inside_of_torch_saves_are_not_read(tmp_path: Path) -> None:
    path, mark = tmp_path / "model.pt", tmp_path / "mark"
    torch.save(Trap(mark), path)
    with pytest.raises(UsageError, match="pickle"):
        load(str(path))
    assert not mark.exists()


def test_pickles_inside_of_exported_programs_are_not_run(folder: Path, tmp_path: Path) -> None:
    import io
    import zipfile

    mark, path = tmp_path / "mark", tmp_path / "model.pt2"
    trap = io.BytesIO()
    torch.save((Trap(mark),), trap)
    with zipfile.ZipFile(folder / "model.pt2") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        replaced = 0
        for name in source.namelist():
            inputs = name.endswith(("sample_inputs/model.pt", "serialized_example_inputs.pt"))
            replaced += inputs
            target.writestr(name, trap.getvalue() if inputs else source.read(name))
    assert replaced == 1
    with pytest.raises(Exception, match=r"(?i)weights.only|unpickl|unsupported"):
        load(str(path))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["noise.bin", "weight.npy", "scene.hdr", "makers.py"])
def test_other_files_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="TorchScript"):
        load(str(folder / name))


def test_empty_files_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pt2").touch()
    for name in ("empty.pt2", "."):
        with pytest.raises(UsageError, match="TorchScript"):
            load(str(tmp_path / name))


@pytest.mark.parametrize(("name", "most"), [("model.pt2", None), ("static.pt2", 1), ("script.pt", None)])
def test_torch_models_are_what_was_exported(folder: Path, name: str, most: int | None) -> None:
    loaded = load(str(folder / name))
    image = torch.from_numpy(values())[None].requires_grad_()
    output = loaded.model.forward_func(image)
    torch.testing.assert_close(output, network()(image))
    (gradient,) = torch.autograd.grad(output[0, 1], image)
    assert gradient.abs().sum() > 0
    assert (loaded.gradients, loaded.most) == (True, most)


@pytest.mark.parametrize(("name", "most"), [("linear.onnx", None), ("single.onnx", 1)])
def test_onnx_models_are_functions_of_arrays(folder: Path, name: str, most: int | None) -> None:
    loaded = load(str(folder / name))
    output = loaded.model.forward_func(values()[None].astype(np.float64))
    np.testing.assert_allclose(output, values().reshape(1, -1) @ np.load(folder / "weight.npy"), rtol=1e-5)
    assert (loaded.gradients, loaded.most, loaded.model.array_input) == (False, most, True)


def test_runs_of_onnx_models_are_told_apart_by_their_files(folder: Path, tmp_path: Path) -> None:
    path, weight = tmp_path / "model.onnx", np.load(folder / "weight.npy")
    told: list[str] = []
    opaque: list[str] = []
    for number in (weight, weight, weight + 1):
        write_onnx(path, number)
        told.append(said(load(str(path)).model, opaque))
    assert told[0] == told[1] != told[2]
    assert not opaque
    function = load(str(path)).model.forward_func
    again = pickle.loads(pickle.dumps(function))
    np.testing.assert_array_equal(again(values()[None]), function(values()[None]))


def test_a_fixed_size_of_batches_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"exactly 3.*dynamic_shapes"):
        load(str(folder / "threes.pt2"))


def test_factories(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    made = load("makers:network")
    image = torch.from_numpy(values())[None]
    torch.testing.assert_close(made.model.forward_func(image), network()(image))
    assert made.model.module is not None
    assert not made.model.module.training
    wrapped = load("makers:wrapped")
    assert (wrapped.gradients, wrapped.model.problem_type) == (False, "regression")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere_at_all:make", "no module 'nowhere_at_all'"),
        ("makers:missing", "no missing"),
        ("makers:network:x", "neither a file nor"),
        ("missing.pt2", "no file"),
        ("folder/missing:make", "no file"),
    ],
)
def test_wrong_factories(folder: Path, monkeypatch: pytest.MonkeyPatch, spec: str, words: str) -> None:
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(UsageError, match=words):
        load(spec)


def test_errors_of_a_factory_are_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ValueError, match="no weights"):
        load("makers:broken")


def test_segmentation_models_are_summed_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--classes"):
        load(str(folder / "script.pt"), "segmentation")
    monkeypatch.syspath_prepend(str(folder))
    (folder / "maps.py").write_text(
        "import torch\ndef make():\n    return lambda x: torch.cat([x[:, :1], 1 - x[:, :1]], 1)\n"
    )
    loaded = load("maps:make", "segmentation", 2)
    image = torch.from_numpy(values())[None]
    first = image[:, 0]
    wanted = torch.stack([first[first > 0.5].sum(), (1 - first)[first <= 0.5].sum()])[None]
    torch.testing.assert_close(loaded.model.forward_func(image), wanted)


def test_shapes() -> None:
    assert network()(torch.zeros(2, BANDS, ROWS, COLUMNS)).shape == (2, OUTPUTS)
