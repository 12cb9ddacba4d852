"""What is wrong with a command line is said in one line, and the exit status tells what kind it is."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import meteors_c
from tests.cli.conftest import environment, process

Command = Callable[..., tuple[int, str, str]]


def one_line(err: str) -> str:
    (line,) = err.splitlines()
    assert line.startswith("meteors-c: error: ")
    assert "Traceback" not in err
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["explode"], "explode"),
        (["info"], "SCENE"),
        (["info", "scene.hdr", "--bad"], "--bad"),
        (["explain", "scene.hdr"], "--model"),
        (["methods", "nothing"], "nothing"),
    ],
)
def test_wrong_words(command: Command, arguments: list[str], words: str) -> None:
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert words in one_line(err)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--method": "magic"}, "integrated-gradients"),
        ({"--out": "map.png"}, ".tif"),
        ({"--out": "nowhere/map.tif"}, "no folder"),
        ({"--out": None}, "--out"),
        ({"--out": "map.zarr", "--target": "all"}, "all"),
        ({"--report": "page.pdf"}, ".html"),
        ({"--target": "first"}, "--target"),
        ({"--target": "0,1"}, "one result"),
        ({"--target": "all", "--out": "map.tif"}, "Saliency"),
        ({"--steps": "5"}, "--steps"),
        ({"--steps": "0"}, "--steps"),
        ({"--samples": "many"}, "--samples"),
        ({"--box": "3"}, "--box"),
        ({"--by": "bands"}, "--by"),
        ({"--groups": "3"}, "--groups"),
        ({"--superpixels": "3"}, "--superpixels"),
        ({"--around": "ig"}, "--around"),
        ({"--option": "n_steps"}, "NAME=VALUE"),
        ({"--option": "n_stepz=5"}, "n_stepz"),
        ({"--option": "hsi=5"}, "hsi"),
        ({"--stride": "2"}, "--window"),
        ({"--window": "3"}, ".npz"),
        ({"--window": "4", "--out": "map.tif"}, "odd"),
        ({"--window": "3,3,3", "--out": "map.tif"}, "odd"),
        ({"--device": "abacus"}, "--device"),
        ({"--option": "abs=maybe"}, "abs must be True or False"),
        ({"--report": "map.html", "--out": "scene.tif", "--model": "scene.tif"}, "is read here"),
        ({"--model": "makers:picky"}, "without arguments"),
        ({"--method": "occlusion", "--groups": "3"}, "--box"),
        ({"--method": "kernel-shap", "--samples": "auto"}, "--samples auto"),
        ({"--pixels": "everywhere", "--out": "map.tif"}, "--pixels"),
        ({"--bands": "4-2"}, "backwards"),
        ({"--bands": "2-"}, "2- is no range"),
        ({"--bands": "0,-2"}, "-2 is no range"),
        ({"--groups": "0", "--method": "lime"}, "--groups"),
        ({"--classes": "3"}, "--problem segmentation"),
        ({"--baseline": "low", "--method": "ig"}, "--baseline"),
        ({"--wavelengths": "1,x"}, "--wavelengths"),
        ({"--model": "pickle.pt"}, "torch.export.save"),
        ({"--model": "linear.onnx"}, "gradients"),
        ({"--model": "linear.onnx", "--method": "smoothgrad"}, "gradients"),
        ({"--model": "missing.pt2"}, "missing.pt2"),
        ({"--problem": "segmentation"}, "--classes"),
    ],
)
def test_wrong_options(
    command: Command, folder: Path, tmp_path: Path, changes: dict[str, str | None], words: str
) -> None:
    given: dict[str, str | None] = {"--model": "model.pt2", "--method": "saliency", "--target": "0", "--out": "map.npz"}
    given |= changes
    arguments = [text for name, value in given.items() if value is not None for text in (name, value)]
    for name in folder.iterdir():
        if name.is_file() and not (tmp_path / name.name).exists():
            (tmp_path / name.name).symlink_to(name)
    before = sorted(tmp_path.iterdir())
    status, out, err = command("explain", "scene.hdr", *arguments)
    assert (status, out) == (2, ""), err
    assert words in one_line("\n".join(line for line in err.splitlines() if ": error: " in line))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("scene", "options", "words"),
    [
        ("missing.hdr", [], "missing.hdr"),
        ("scene.hdr", ["--target", "99"], "99"),
        ("wide.hdr", [], "5 x 6 x 7"),
        ("scene.hdr", ["--device", "cuda:77"], ""),
        ("noise.bin", [], ""),
    ],
)
def test_runs_that_fail(command: Command, folder: Path, scene: str, options: list[str], words: str) -> None:
    target = [] if "--target" in options else ["--target", "0"]
    status, out, err = command(
        "explain", folder / scene, "--model", folder / "model.pt2", "--method", "ig", "--out", "map.npz", *target,
        *options,
    )  # fmt: skip
    assert (status, out) == (1, "")
    line = one_line(err.splitlines()[-1])
    assert words in line
    assert not list(Path.cwd().iterdir())


def test_the_whole_traceback_on_request(command: Command, folder: Path) -> None:
    for arguments in (("--traceback", "info", "missing.hdr"), ("info", "--traceback", "missing.hdr")):
        status, _, err = command(*arguments)
        assert status == 1
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("meteors-c: error: ")


@pytest.mark.parametrize("name", ["", "explain", "info", "methods"])
def test_help(command: Command, name: str) -> None:
    status, out, err = command(*([name] if name else []), "--help")
    assert (status, err) == (0, "")
    assert "usage: meteors-c" in out
    if name in ("", "explain"):
        assert "example" in out


# ---------------------------------------------------------------- as processes


def test_version_and_help_as_processes(tmp_path: Path) -> None:
    found = process("--version", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip().endswith(meteors_c.__version__)
    found = process("explain", "--help", cwd=tmp_path)
    assert found.returncode == 0
    assert "python -m meteors_c explain" in found.stdout


def test_a_run_as_a_process(folder: Path, tmp_path: Path) -> None:
    found = process(
        "explain", folder / "scene.hdr", "--model", folder / "script.pt", "--method", "ig", "--target", "3", "--out",
        "map.tif", "--report", "out.html", cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout == "map.tif\nout.html\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "out.html"]
    assert "Integrated Gradients" in found.stderr


def test_a_failure_as_a_process(folder: Path, tmp_path: Path) -> None:
    arguments = ("--model", folder / "pickle.pt", "--method", "ig", "--out", "map.npz")
    found = process("explain", folder / "scene.hdr", *arguments, cwd=tmp_path)
    assert found.returncode == 2
    assert len(found.stderr.splitlines()) == 1
    found = process("info", "missing.tif", cwd=tmp_path)
    assert found.returncode == 1
    assert found.stderr.splitlines() == ["python -m meteors_c: error: there is no scene 'missing.tif'"]


def test_an_interrupt_ends_with_its_status_and_no_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "makers.py").write_bytes((folder / "makers.py").read_bytes())
    arguments = ["explain", str(folder / "scene.hdr"), "--model", "makers:slow", "--method", "occlusion", "--by",
                 "values", "--out", "map.npz"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "meteors_c", *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "started\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.splitlines()[-1].endswith("interrupted")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != "") == ["makers.py"]


def test_commands_and_scripts_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "methods").write_text("print('the script')\n")
    (tmp_path / "info.py").write_text("print('the script')\n")
    for name in ("./methods", str(tmp_path / "methods"), "info.py"):
        found = process(name, cwd=tmp_path)
        assert (found.returncode, found.stdout) == (0, "the script\n"), found.stderr
    found = process("methods", cwd=tmp_path)
    assert found.returncode == 0
    assert "integrated-gradients" in found.stdout
    assert "./methods" in found.stderr


# ---------------------------------------------------------------- what is said


def test_what_can_not_be_written_is_said_before_the_work(command: Command, folder: Path, tmp_path: Path) -> None:
    """No folder can be made in this one, whoever runs the test."""
    arguments = ("--model", folder / "script.pt", "--method", "saliency", "--target", 0)
    for name in ("map.tif", "map.zarr"):
        status, out, err = command("explain", folder / "missing.hdr", *arguments, "--out", f"/proc/{name}")
        assert (status, out) == (2, "")
        assert "/proc" in one_line(err)
        assert "missing.hdr" not in err


@pytest.mark.parametrize("name", ["broken", "odd"])
def test_errors_of_the_own_code_say_where(command: Command, folder: Path, name: str) -> None:
    arguments = ("--model", f"makers:{name}", "--method", "saliency", "--target", 0, "--out", "map.npz")
    status, _, err = command("explain", folder / "scene.hdr", *arguments)
    assert status == 1
    lines = (folder / "makers.py").read_text().splitlines()
    number = 1 + next(
        i for i, line in enumerate(lines) if "raise" in line and ("no weights" in line) == (name == "broken")
    )
    assert f"makers.py, line {number}" in err.splitlines()[-1]
    status, _, err = command("info", folder / "noise.bin")
    assert (status, "line" in err) == (1, False)


def test_errors_of_torchscript_are_their_last_line(command: Command, folder: Path) -> None:
    arguments = ("--model", folder / "patches.pt", "--method", "saliency", "--target", 0, "--out", "map.npz")
    status, _, err = command("explain", folder / "scene.hdr", *arguments)
    assert status == 1
    assert "5 x 6 x 7" in one_line(err)
    assert "serialized code" not in err
    assert len(err) < 300


def test_messages_name_options(command: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.hdr").write_text("\n".join(
        line for line in (folder / "scene.hdr").read_text().splitlines() if not line.startswith("wavelength")
    ))  # fmt: skip
    (tmp_path / "bare.img").write_bytes((folder / "scene.img").read_bytes())
    status, _, err = command("info", tmp_path / "bare.hdr")
    assert (status, "--wavelengths" in err, "wavelengths=" in err) == (1, True, False)
    status, _, err = command("info", tmp_path / "bare.hdr", "--wavelengths", "0.4,0.5,0.6,0.8,1.6")
    assert (status, "--wavelength-unit" in err) == (0, True)


def test_missing_zarr_is_one_sentence(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    status, _, err = command(
        "explain", folder / "missing.hdr", "--model", "x", "--method", "ig", "--window", 3, "--out", "map.zarr"
    )
    assert status == 1
    assert "meteors_c[dask]" in one_line(err)
