"""Do with the packages in ``dist/`` what their users will do: ``make dist-check``.

The source distribution is unpacked: it must hold every file of the repository, its make targets must find all that they
need, and its C tests must pass. The wheel, which was built from it, is installed into a fresh environment beside the
torch that TORCH names: it must have its bridge, its console script must explain a scene, and tests of the source
distribution must pass on it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "dist-check"
TESTS = ("tests/attr/test_integrated_gradients.py", "tests/attr/test_occlusion.py", "tests/test_hsi.py")  # on the wheel


def run(*command: str | Path, cwd: Path | str, **environment: str) -> str:
    """Run a command with what it prints shown; end with it where it fails."""
    print("$", shlex.join(map(str, command)), flush=True)
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "METEORS_C_TORCH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=kept | environment, stdout=subprocess.PIPE, text=True, check=False
    )
    sys.stdout.write(done.stdout[-4000:])
    if done.returncode:
        sys.exit(f"failed with status {done.returncode}: {shlex.join(map(str, command))}")
    return done.stdout


def only(pattern: str) -> Path:
    found = list((ROOT / "dist").glob(pattern))
    if len(found) != 1:
        sys.exit(f"dist/ must hold one {pattern}, it holds {len(found)}: run make dist")
    return found[0]


def check_sources() -> Path:
    """Unpack the source distribution and use it without the repository; gives its folder."""
    with tarfile.open(only("*.tar.gz")) as archive:
        archive.extractall(WORK)
    (folder,) = (path for path in WORK.iterdir() if (path / "PKG-INFO").is_file())
    if (ROOT / ".git").exists():
        tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")[:-1]
        if missing := [name for name in tracked if not (folder / name).is_file()]:
            sys.exit(f"the source distribution lacks {', '.join(missing)}")
    targets = re.findall(r"^([a-z-]+):.*## ", (folder / "Makefile").read_text(), re.MULTILINE)
    run("make", "--dry-run", "--silent", *targets, cwd=folder)
    run("make", "--silent", "check", cwd=folder)
    return folder


def check_wheel(sources: Path) -> None:
    """Install the wheel where nothing else is, use it outside of the repository, and run tests on it."""
    venv.create(WORK / "venv", with_pip=True)
    python = WORK / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    run(*pip, *shlex.split(os.environ.get("TORCH_PIP_ARGS", "")), os.environ.get("TORCH", "torch"), cwd=WORK)
    wheel = only("*.whl")
    run(*pip, wheel, cwd=WORK)
    with tempfile.TemporaryDirectory() as elsewhere:
        run(python, sources / "tools" / "smoke.py", "--bridge", cwd=elsewhere)
        # What needs no extra must do without one.
        script = python.with_name("meteors-c")
        if (said := run(script, "--version", cwd=elsewhere).split()[-1]) != wheel.name.split("-")[1]:
            sys.exit(f"meteors-c --version says {said}, the wheel is {wheel.name}")
        run(script, "methods", cwd=elsewhere)
        run(*pip, f"{wheel}[geo,report]", "pytest", "hypothesis", cwd=WORK)
        run(python, sources / "tools" / "smoke_cli.py", cwd=elsewhere)
        # Without the sources of the package beside them, tests import the one that is installed.
        shutil.copytree(sources / "tests", Path(elsewhere, "tests"))
        shutil.copy(sources / "pyproject.toml", elsewhere)
        run(python, "-m", "pytest", "-q", *TESTS, cwd=elsewhere)


def main() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    check_wheel(check_sources())
    shutil.rmtree(WORK)
    print("the packages in dist/ are complete and work")


if __name__ == "__main__":
    main()
