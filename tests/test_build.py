"""The build says in one sentence what it lacks, and the extension modules share torch's threads."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import meteors_c

ROOT = Path(__file__).resolve().parent.parent


def build(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py as far as it comes without a C compiler."""
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", tmp_path, "--build-temp", tmp_path],
        cwd=ROOT,
        env={**os.environ, "CC": "/nowhere/cc", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_missing_compiler_is_one_sentence(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode != 0
    assert "needs a C compiler to be built, but there is no '/nowhere/cc'" in done.stderr
    assert "Traceback" not in done.stderr


def test_torch_without_headers_is_one_sentence(tmp_path: Path) -> None:
    done = build(tmp_path, METEORS_C_TORCH=str(tmp_path))
    assert done.returncode != 0
    assert f"METEORS_C_TORCH={tmp_path} is not the folder of an installed torch" in done.stderr
    assert "Traceback" not in done.stderr


def test_bridge_can_be_left_out(tmp_path: Path) -> None:
    assert "built without the native torch bridge" in build(tmp_path, METEORS_C_TORCH="off").stderr


def test_version_is_one() -> None:
    assert importlib.metadata.version("meteors_c") == meteors_c.__version__
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == meteors_c.__version__


def test_import_leaves_heavy_packages_alone() -> None:
    code = """
import sys, torch
before = set(sys.modules)
import meteors_c
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    heavy = {"matplotlib", "tqdm", "pandas", "sklearn", "skimage", "scipy", "shap", "spyndex", "captum"}
    assert not heavy & set(re.findall(r"\w+", python(code)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/maps")
def test_one_openmp_runtime() -> None:
    code = """
import re, torch, meteors_c, meteors_c._core, meteors_c._torch
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
print(*sorted(set(re.findall(r"\\S*/lib(?:g|i|)omp5?[-.]\\S*", open("/proc/self/maps").read()))))
"""
    runtimes = python(code).split()
    before = python(code.replace("meteors_c, meteors_c._core, meteors_c._torch", "sys")).split()
    assert len(runtimes) == 1
    assert runtimes == before


def test_bridge_is_for_this_torch() -> None:
    code = """
import warnings
warnings.simplefilter("error")
from meteors_c._native import bridge
print(bridge().__file__)
"""
    assert torch.__version__.encode() in Path(python(code)).read_bytes()
