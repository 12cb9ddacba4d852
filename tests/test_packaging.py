"""What stands in several files about releases, Pythons and torch agrees, and what workflows call is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import meteors_c

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), yaml.BaseLoader)  # in which "on" is a word and 3.10 is not 3.1


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{path.stem}/{name}", job) for path in WORKFLOWS for name, job in load(path)["jobs"].items()]


def matrix(values: dict[str, Any], name: str) -> set[str]:
    """All values that one dimension of a matrix takes."""
    return {*values.get(name, []), *(row[name] for row in values.get("include", []) if name in row)}


def minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


OF_TESTS = dict(jobs())["tests/test"]["strategy"]["matrix"]
(BOUND,) = (re.fullmatch(r"torch>=([\d.]+)", text)[1] for text in PROJECT["project"]["dependencies"] if "torch" in text)


@pytest.mark.parametrize(("name", "job"), jobs(), ids=[name for name, _ in jobs()])
def test_jobs_call_what_is_there(name: str, job: dict[str, Any]) -> None:
    assert {"runs-on", "timeout-minutes", "steps"} <= job.keys() or name.endswith("/publish")
    for step in job["steps"]:
        assert len({"run", "uses"} & step.keys()) == 1, step
        command = step.get("run", "")
        for targets in re.findall(r"^\s*make ((?:[a-z][a-z-]* ?)+)", command, re.MULTILINE):
            assert set(targets.split()) <= TARGETS
        for tool in re.findall(r"\btools/\w+\.py", command):
            assert (ROOT / tool).is_file()
        for action in re.findall(r"^.+$", step.get("uses", ""), re.MULTILINE):
            assert re.fullmatch(r"[\w-]+/[\w/-]+@[\w./-]+", action), "an action has a version"


def test_workflows_may_read_alone() -> None:
    """Rights to write are given to single jobs."""
    assert WORKFLOWS
    for path in WORKFLOWS:
        assert load(path)["permissions"] == {"contents": "read"}


def test_steps_of_the_tests_are_what_the_project_needs() -> None:
    commands = {name.partition("/")[2]: " ".join(step.get("run", "") for step in job["steps"]) for name, job in jobs()}
    for name, target in {
        "lint": "make lint",
        "sanitizers": "asan",
        "test": "make test",
        "coverage": "make coverage",
        "docs": "make docs",
        "package": "make dist-check",
        "sdist": "make dist-check",
        "wheels": "cibuildwheel",
    }.items():
        assert target in commands[name]


def test_pythons_are_those_that_the_metadata_allow() -> None:
    oldest = minor(re.fullmatch(r">=([\d.]+)", PROJECT["project"]["requires-python"])[1])
    tested = {minor(version) for version in matrix(OF_TESTS, "python")}
    assert tested == {(3, number) for number in range(oldest[1], max(tested)[1] + 1)}
    assert max(tested) >= (3, 14)
    wheels = {(3, int(number)) for number in re.findall(r"cp3(\d+)-", PROJECT["tool"]["cibuildwheel"]["build"])}
    assert wheels == tested
    assert minor(PROJECT["tool"]["mypy"]["python_version"]) == oldest


def test_releases_of_torch_agree() -> None:
    """The oldest that the metadata allow, the one to develop with and the newest are built in every place."""
    developed = re.search(r"^TORCH \?= torch==(\S+)$", MAKEFILE, re.MULTILINE)[1]
    others = re.findall(r"torch==(\S+)", re.search(r"^OTHER_TORCH \?= (.*)$", MAKEFILE, re.MULTILINE)[1])
    oldest, newest = sorted(others, key=minor)
    assert minor(oldest) == minor(BOUND) < minor(developed) < minor(newest)
    assert matrix(OF_TESTS, "torch") == {oldest, developed, newest}
    assert set(dict(jobs())["release/wheels"]["strategy"]["matrix"]["torch"]) == {developed, newest}
    for system in ("ubuntu", "macos"):
        rows = [row["torch"] for row in OF_TESTS["include"] if row["os"].startswith(system)]
        assert {oldest, newest} <= set(rows)


def test_wheels_leave_the_libraries_of_torch_to_torch() -> None:
    repair = PROJECT["tool"]["cibuildwheel"]["linux"]["repair-wheel-command"]
    for library in ("libc10.so", "libtorch.so", "libtorch_cpu.so", "libtorch_python.so"):
        assert f"--exclude {library}" in repair
    assert PROJECT["tool"]["cibuildwheel"]["environment"]["METEORS_C_TORCH"] == "required"


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == meteors_c.__version__.partition(".dev")[0].partition("+")[0]
    assert citation["license"] == PROJECT["project"]["license"]


def test_issue_forms_have_what_a_form_needs() -> None:
    forms = [load(path) for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) >= 2
    for form in forms:
        assert {"name", "description", "body"} <= form.keys()
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 0


@pytest.mark.parametrize(
    ("version", "torch", "wanted"),
    [("0.2.0", "2.13.0", "0.2.0+torch2.13"), ("0.2.0.dev0+torch2.6", "2.14.1+cpu", "0.2.0.dev0+torch2.14")],
)
def test_local_version_names_the_torch(version: str, torch: str, wanted: str, tmp_path: Path) -> None:
    """Of a copy of the tool and the file that it changes."""
    for name in ("tools/wheel_version.py", "meteors_c/_version.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text((ROOT / name).read_text())
    file = tmp_path / "meteors_c" / "_version.py"
    file.write_text(re.sub('"[^"]+"$', f'"{version}"', file.read_text(), flags=re.MULTILINE))
    found: dict[str, str] = {}
    for argument, expected in ((torch, wanted), ("--clear", version.partition("+")[0])):
        subprocess.run([sys.executable, tmp_path / "tools" / "wheel_version.py", argument], check=True)
        exec(file.read_text(), found)
        assert found["__version__"] == expected
