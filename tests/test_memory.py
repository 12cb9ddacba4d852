"""How much memory there is: of the machine, and of the control groups of a container, in trees of files like theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

import meteors_c
from meteors_c import HSI, _memory, attr, models
from meteors_c._options import memory_budget

FREE = 8 << 30
MIB = 1 << 20
Groups = Callable[..., int]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Groups]:
    """Write /proc/self/cgroup and files of control groups; gives what is available then, of 8 GiB."""

    def available(of_process: str, **files: str) -> int:
        (tmp_path / "cgroup").write_text(of_process)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _memory._groups.cache_clear()
        return _memory.available_memory()

    monkeypatch.setattr(_memory, "_GROUPS_OF_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(_memory, "_GROUPS", tmp_path / "fs")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=FREE))
    yield available
    _memory._groups.cache_clear()


def v2(folder: str, limit: int | str, used: int, reclaimable: int = 0) -> dict[str, str]:
    return {
        f"{folder}memory.max": f"{limit}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": f"anon 5\ninactive_file {reclaimable}\nactive_file 7\n",
    }


def v1(folder: str, limit: int, used: int, reclaimable: int = 0) -> dict[str, str]:
    return {
        f"memory/{folder}memory.limit_in_bytes": f"{limit}\n",
        f"memory/{folder}memory.usage_in_bytes": f"{used}\n",
        f"memory/{folder}memory.stat": f"inactive_file 1\ntotal_inactive_file {reclaimable}\n",
    }


def test_the_machine_counts_where_no_group_limits(groups: Groups) -> None:
    assert groups("0::/\n") == FREE
    assert groups("0::/user\n", **v2("user/", "max", MIB)) == FREE
    assert groups("4:memory:/\n", **v1("", 9223372036854771712, MIB)) == FREE
    assert groups("0::/user\n", **v2("user/", 64 * FREE, MIB)) == FREE


def test_the_limit_of_a_container_counts(groups: Groups) -> None:
    assert groups("0::/\n", **v2("", 512 * MIB, 100 * MIB)) == 412 * MIB
    assert groups("0::/\n", **v2("", 512 * MIB, 100 * MIB, 40 * MIB)) == 452 * MIB, "cached files make room"
    assert groups("0::/\n", **v2("", 512 * MIB, 600 * MIB)) == 0


def test_the_tightest_group_counts(groups: Groups) -> None:
    tree = v2("a/", 300 * MIB, 100 * MIB) | v2("a/b/", "max", 50 * MIB) | v2("a/b/c/", 400 * MIB, 50 * MIB)
    assert groups("0::/a/b/c\n", **tree) == 200 * MIB


def test_groups_of_version_1(groups: Groups) -> None:
    several = "9:name=systemd:/x\n4:cpu,memory:/docker/f00\n2:cpu:/\n"
    assert groups(several, **v1("", 512 * MIB, 100 * MIB, 8 * MIB)) == 420 * MIB, "a container sees its own as the root"
    assert groups(several, **v1("docker/f00/", 256 * MIB, 100 * MIB)) == 156 * MIB


@pytest.mark.parametrize("damage", ["", "many\n"])
def test_files_that_say_nothing_are_passed_over(groups: Groups, damage: str) -> None:
    files = v2("", 512 * MIB, 100 * MIB)
    assert groups("0::/\n", **files | {"memory.current": damage}) == FREE


def test_without_control_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_memory, "_GROUPS_OF_PROCESS", tmp_path / "none")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=123))
    _memory._groups.cache_clear()
    try:
        assert _memory.available_memory() == 123
        assert memory_budget() == 61
    finally:
        _memory._groups.cache_clear()


def test_this_machine_says_something_sensible() -> None:
    total = psutil.virtual_memory().total
    assert 0 < _memory.available_memory() <= total


def test_a_call_keeps_within_what_a_container_leaves(groups: Groups) -> None:
    """Few samples at once where little is left, whatever the machine has; all the same numbers."""
    hsi = HSI(image=torch.rand(8, 64, 64), wavelengths=list(range(400, 408)))
    network = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    explainer = attr.Occlusion(models.ExplainableModel(network.eval(), "regression"))
    window = {"sliding_window_shapes": (8, 8, 8), "strides": (8, 8, 8)}
    with meteors_c.options(shortcuts=False):
        assert groups("0::/\n") == FREE
        wide = explainer.attribute(hsi, target=0, **window)
        assert groups("0::/\n", **v2("", 512 * MIB, 511 * MIB)) == MIB
        narrow = explainer.attribute(hsi, target=0, **window)
    assert narrow.report.chunk_largest < wide.report.chunk_largest
    torch.testing.assert_close(narrow.attributes, wide.attributes)
