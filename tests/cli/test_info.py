"""``info`` and ``methods``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meteors_c.attr._registry import METHODS
from meteors_c.cli._methods import ALIASES, resolve

Command = Callable[..., tuple[int, str, str]]


def table(out: str) -> dict[str, str]:
    return {line.split("  ")[0].strip(): line.partition("  ")[2].strip() for line in out.splitlines()}


def test_what_a_scene_is(command: Command, folder: Path) -> None:
    status, out, err = command("info", folder / "wide.hdr")
    assert status == 0, err
    rows = table(out)
    assert rows["size"] == "5 bands, 20 rows, 18 columns"
    assert rows["wavelengths"].startswith("450.0 to 1650.0 nm")
    assert "Micrometers" in rows["wavelengths"]
    assert rows["no-data"] == "-1"
    assert rows["NaN"].startswith("1 of 1800")
    assert rows["missing"].startswith("5 of 1800")
    assert "1 pixels" in rows["missing"]
    assert rows["CRS"] == "EPSG:32633"
    assert rows["resolution"] == "30 x 30"
    assert rows["bounds"] == "500000, 3999400, 500540, 4000000"
    assert rows["bad bands"] == "none are marked"
    low, _, high = rows["range"].partition(" to ")
    assert 0 <= float(low) < float(high) <= 1
    for name in ("blue", "red"):
        assert name in rows["regions"]


def test_bad_bands_are_listed(command: Command, folder: Path, tmp_path: Path) -> None:
    header = (folder / "scene.hdr").read_text() + "bbl = {1, 0, 0, 1, 0}\n"
    (tmp_path / "bad.hdr").write_text(header)
    (tmp_path / "bad.img").write_bytes((folder / "scene.img").read_bytes())
    status, out, err = command("info", "bad.hdr")
    assert status == 0, err
    assert table(out)["bad bands"] == "3: 1-2, 4"
    status, out, _ = command("info", "bad.hdr", "--bands", "2-4")
    assert table(out)["bad bands"] == "2: 2, 4"
    status, out, _ = command("info", "bad.hdr", "--bad-bands", "drop")
    assert table(out)["size"].startswith("2 bands")


def test_every_method_is_listed(command: Command) -> None:
    status, out, _ = command("methods")
    assert status == 0
    listed = [line.split()[0] for line in out.splitlines()[1:]]
    assert [resolve(name) for name in listed] == list(METHODS.values())
    for short, long in ALIASES.items():
        assert short in out
        assert resolve(short) is resolve(long)


@pytest.mark.parametrize("name", list(METHODS))
def test_options_of_each_method(command: Command, name: str) -> None:
    status, out, _ = command("methods", name)
    assert status == 0
    assert "--option" in out
    assert "hsi" not in out.split("--option", 1)[1]
    if name == "IntegratedGradients":
        assert "n_steps = 50" in out
