"""Scenes and models in files, as a user has them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
BANDS, ROWS, COLUMNS, OUTPUTS = 5, 6, 7, 4
WAVELENGTHS = [0.45, 0.55, 0.65, 0.85, 1.65]  # um

HEADER = """ENVI
samples = {columns}
lines = {rows}
bands = 5
data type = 4
interleave = bsq
byte order = 0
data ignore value = -1
wavelength units = Micrometers
wavelength = {{0.45, 0.55, 0.65, 0.85, 1.65}}
map info = {{UTM, 1, 1, 500000, 4000000, 30, 30, 33, North, WGS-84}}
"""


def values(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Values of a scene, float32 (bands, rows, columns)."""
    return np.random.default_rng(3).random((BANDS, rows, columns), dtype=np.float32)


def network(rows: int = ROWS, columns: int = COLUMNS) -> nn.Sequential:
    """A network of images, or patches, of one size."""
    torch.manual_seed(5)
    size = 3 * rows * columns
    return nn.Sequential(nn.Conv2d(BANDS, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(size, OUTPUTS)).eval()


def write_onnx(path: Path, weight: np.ndarray, batch: int | str = "n") -> None:
    """A linear model of flattened images."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, BANDS, ROWS, COLUMNS])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, weight.shape[1]])
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weight"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "linear", [image], [scores], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


def export(path: Path, model: nn.Module, batch: torch.Tensor, any_size: bool) -> None:
    shapes = ({0: torch.export.Dim("n", min=1, max=4096)},) if any_size else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (batch,), dynamic_shapes=shapes), str(path))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes and models; tests write elsewhere."""
    found = tmp_path_factory.mktemp("files")
    for name, shape in {"scene": (ROWS, COLUMNS), "wide": (20, 18)}.items():
        data = values(*shape)
        if name == "wide":
            data[:, 0, 0] = -1
            data[2, 1, 1] = np.nan
        data.tofile(found / f"{name}.img")
        (found / f"{name}.hdr").write_text(HEADER.format(rows=shape[0], columns=shape[1]))
    model = network()
    export(found / "model.pt2", model, torch.zeros(2, BANDS, ROWS, COLUMNS), True)
    export(found / "static.pt2", model, torch.zeros(1, BANDS, ROWS, COLUMNS), False)
    export(found / "threes.pt2", model, torch.zeros(3, BANDS, ROWS, COLUMNS), False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, torch.zeros(2, BANDS, ROWS, COLUMNS)).save(str(found / "script.pt"))
        torch.jit.trace(network(3, 3), torch.zeros(2, BANDS, 3, 3)).save(str(found / "patches.pt"))
    torch.save(model, found / "pickle.pt")
    torch.save(model.state_dict(), found / "state.pt")
    torch.save(model, found / "old.pt", _use_new_zipfile_serialization=False)
    weight = np.random.default_rng(1).standard_normal((BANDS * ROWS * COLUMNS, OUTPUTS)).astype(np.float32)
    write_onnx(found / "linear.onnx", weight)
    write_onnx(found / "single.onnx", weight, 1)
    np.save(found / "weight.npy", weight)
    (found / "noise.bin").write_bytes(bytes(range(1, 200)))
    (found / "makers.py").write_text(
        "import torch, numpy\n"
        "from torch import nn\n"
        "from meteors_c.models import ExplainableModel\n"
        "def network():\n"
        "    torch.manual_seed(5)\n"
        f"    return nn.Sequential(nn.Conv2d({BANDS}, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), "
        f"nn.Linear({3 * ROWS * COLUMNS}, {OUTPUTS}))\n"
        "def wrapped():\n"
        "    return ExplainableModel(lambda x: x.reshape(len(x), -1).sum(1), 'regression', array_input=True)\n"
        "def broken():\n"
        "    raise ValueError('no weights here')\n"
        "def picky(size):\n"
        "    return None\n"
        "def odd():\n"
        "    def model(x):\n"
        "        raise RuntimeError('not this image')\n"
        "    return model\n"
        "def slow():\n"
        "    import time\n"
        "    def model(x):\n"
        "        print('started', flush=True)\n"
        "        time.sleep(0.05)\n"
        "        return x.flatten(1).sum(1)\n"
        "    return model\n"
        "number = 3\n"
    )
    return found


@pytest.fixture
def command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., Any]:
    """Run a command in this process, in an empty folder: status, output, errors."""
    from meteors_c import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    threads = torch.get_num_threads()

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(one) for one in arguments])
        finally:
            torch.set_num_threads(threads)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def process(*arguments: object, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m meteors_c`` as a process."""
    return subprocess.run(
        [sys.executable, "-m", "meteors_c", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **options,
    )


def environment() -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return found | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "", "OMP_NUM_THREADS": "1"}
