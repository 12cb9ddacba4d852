"""What the build makes, packs and lacks: from sources to a wheel that type-checks, beside any torch."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

import meteors_c
from meteors_c import _native

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
    assert newest.group(1) == meteors_c.__version__.partition(".dev")[0]


def test_names_that_load_late_are_seen_by_tools() -> None:
    """Type checkers and editors read the imports under TYPE_CHECKING, documentation tools ask for every public name."""
    tree = ast.parse(Path(meteors_c.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for line in block.body if isinstance(line, ast.ImportFrom) for alias in line.names}
    assert seen == set(meteors_c.__all__) - {"__version__", "options"}
    assert set(meteors_c.__all__) <= set(dir(meteors_c))
    members = dict(inspect.getmembers(meteors_c))
    assert set(meteors_c.__all__) <= members.keys()
    assert inspect.isclass(members["HSI"])
    with pytest.raises(AttributeError, match="nothing"):
        _ = meteors_c.nothing


def test_import_leaves_heavy_packages_alone() -> None:
    code = """
import sys, torch
before = set(sys.modules)
import meteors_c
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    heavy = set("matplotlib tqdm pandas sklearn skimage scipy shap spyndex captum pooch requests psutil".split())
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


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (None, "<source of meteors_c>"),
        ({"url": "file:///home/a%20user/meteors_c", "dir_info": {}}, "'/home/a user/meteors_c'"),
        ({"url": "file:///home/user/meteors_c", "dir_info": {"editable": True}}, "-e /home/user/meteors_c"),
        ({"url": "https://h.org/m.git", "vcs_info": {"vcs": "git", "commit_id": "f00"}}, "git+https://h.org/m.git@f00"),
        ({"url": "file:///tmp/meteors_c-0.1.0-cp311-linux.whl", "archive_info": {}}, "<source of meteors_c>"),
    ],
    ids=["unknown", "folder", "editable", "repository", "wheel"],
)
def test_advice_names_where_the_package_came_from(
    origin: dict[str, object] | None, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "meteors_c-0.1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: meteors_c\nVersion: 0.1.0\n")
    if origin is not None:
        (facts / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    module, why = _native._load_bridge()
    assert module is None
    assert why.endswith(f"pip install --no-cache-dir --force-reinstall --no-deps {source}")


# --- packages, from a project of a few lines that the same setup.py builds ---------------------------------------

# Stands for a C++ compiler: what it makes is its own command line, and what it links is all that was linked.
FAKE_COMPILER = """#!/bin/sh
out=; previous=; inputs=
for argument; do
    [ "$previous" = -o ] && out=$argument
    case $argument in *.o) [ "$previous" = -o ] || inputs="$inputs $argument" ;; esac
    previous=$argument
done
{ echo "$@"; [ -z "$inputs" ] || cat $inputs; } > "$out"
"""
# Two releases of torch: one whose GPU libraries are missing, so that it can't be asked, and one that can be.
TORCH = {
    "1.0": {
        "__init__.py": "raise ImportError('libcudart.so.11.0: cannot open shared object file')",
        "share/cmake/Torch/TorchConfig.cmake": 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n',
        "lib/libtorch_python.so": "\0__pybind11_internals_v4_gcc_cxxabi1011__\0",
        "utils/cpp_extension.py": "cpp_flag = cpp_flag_prefix + 'c++17'",
    },
    "2.0": {
        "__init__.py": "class _C: _PYBIND11_BUILD_ABI = '_cxxabi1016'\ndef compiled_with_cxx11_abi(): return True",
        "utils/__init__.py": "",
        "utils/cpp_extension.py": """
cpp_flag_prefix = "-std="
cpp_flag = cpp_flag_prefix + 'c++23'
class CppExtension:
    include_dirs, library_dirs, libraries = ["/its/headers"], ["/its/lib"], ["torch", "special"]
    def __init__(self, name, sources): pass
""",
    },
}
MODULE = "#include <Python.h>\nPyMODINIT_FUNC PyInit__core(void);\nPyMODINIT_FUNC PyInit__core(void) { return NULL; }\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's build, two files of C and a bridge; and beside it two releases of torch."""
    folder = tmp_path / "project"
    copied = "setup.py pyproject.toml MANIFEST.in README.md LICENSE meteors_c.pth _meteors_c_startup.py"
    for name in [*copied.split(), "meteors_c/__init__.py", "meteors_c/_version.py", "meteors_c/py.typed"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    sources = {
        "core/a.h": "int met_a(void);\n",
        "core/b.h": "int met_b(void);\n",
        "core/a.c": '#include "a.h"\nint met_a(void) { return 1; }\n',
        "core/b.c": '#include "b.h"\nint met_b(void) { return 2; }\n',
        "python/module.c": MODULE,
        "torch_bridge/bridge.cpp": "",
    }
    for name, text in sources.items():
        (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "src" / name).write_text(text)
    for version, package in TORCH.items():
        always = {"version.py": f"__version__ = '{version}'\n", "include/torch/torch.h": ""}
        for name, text in (always | package).items():
            path = tmp_path / version / "torch" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (tmp_path / "c++").write_text(FAKE_COMPILER)
    (tmp_path / "c++").chmod(0o755)
    return folder


def try_to_make(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of setup.py; METEORS_C_TORCH may name one of the releases beside the project."""
    wish = environment.pop("METEORS_C_TORCH", "off")
    beside = project.parent / wish / "torch"
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", *command],
        cwd=project,
        env={
            **{name: value for name, value in os.environ.items() if name != "METEORS_C_WERROR"},
            "METEORS_C_TORCH": str(beside) if wish in TORCH else wish,
            "CXX": str(project.parent / "c++"),
            "CCACHE_DISABLE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def make(project: Path, *command: str, **environment: str) -> str:
    """Run a command of setup.py that must work; what it warns of."""
    done = try_to_make(project, *command, **environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


def wheel(project: Path, torch_folder: str, **environment: str) -> dict[str, bytes]:
    """The files of a wheel, by name; extension modules by the first part of theirs."""
    shutil.rmtree(project / "dist", ignore_errors=True)
    make(project, "bdist_wheel", METEORS_C_TORCH=torch_folder, **environment)
    (path,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {re.sub(r"\.[^/]*\.so$", "", name): archive.read(name) for name in archive.namelist()}


def test_a_wheel_has_the_bridge_for_the_torch_of_its_own_build(project: Path) -> None:
    for version in ("1.0", "2.0", "1.0"):
        bridge = wheel(project, version)["meteors_c/_torch"].decode()
        assert set(re.findall(r'METEORS_C_TORCH_VERSION="(.*?)"', bridge)) == {version}
        layout, types, standard = ({"0"}, "1011", "c++17") if version == "1.0" else (set(), "1016", "c++23")
        assert set(re.findall(r"-D_GLIBCXX_USE_CXX11_ABI=(\S+)", bridge)) == layout
        assert set(re.findall(r'-DPYBIND11_BUILD_ABI="_cxxabi(\d+)"', bridge)) == {types}
        assert set(re.findall(r"-std=(\S+)", bridge)) == {standard}
    without = wheel(project, "off")
    assert {"meteors_c/_core", "meteors_c/py.typed", "meteors_c.pth"} <= set(without)
    assert "meteors_c/_torch" not in without


def test_flags_are_those_that_torch_gives(project: Path) -> None:
    """Where torch can be asked, its word counts; where it can't be imported, the layout of its folder."""
    asked = wheel(project, "2.0")["meteors_c/_torch"].decode()
    assert "-isystem /its/headers" in asked
    assert {"-L/its/lib", "-lspecial"} <= set(asked.split())
    read = wheel(project, "1.0")["meteors_c/_torch"].decode()
    assert f"-isystem {project.parent / '1.0/torch/include'}" in read
    assert {f"-L{project.parent / '1.0/torch/lib'}", "-lc10", "-ltorch_cpu", "-ltorch_python"} <= set(read.split())
    assert "libcudart" in make(project, "build_ext", "--inplace", METEORS_C_TORCH="1.0")


@pytest.mark.parametrize("fault", ["compiler missing", "does not compile", "does not link"])
def test_a_bridge_that_can_not_be_built_is_left_out(project: Path, fault: str) -> None:
    """With a warning; one that an earlier build left goes too. What is required is an error instead."""
    make(project, "build_ext", "--inplace", METEORS_C_TORCH="2.0")
    compiler = project.parent / "c++"
    if fault == "compiler missing":
        compiler.unlink()
    else:
        failing = " -c " if fault == "does not compile" else " -shared "
        compiler.write_text(f'#!/bin/sh\ncase " $* " in *"{failing}"*) exit 1;; esac\n{FAKE_COMPILER}')
        (project / "src/torch_bridge/bridge.cpp").touch()
    beside = {"PYTHONPATH": str(project.parent / "2.0"), "METEORS_C_TORCH": ""}
    said = make(project, "build_ext", "--inplace", **beside)
    assert "torch bridge is left out" in said
    assert "Traceback" not in said
    assert len(list((project / "meteors_c").glob("_core*.so"))) == 1
    assert not list((project / "meteors_c").glob("_torch*.so"))
    packed = wheel(project, "", PYTHONPATH=beside["PYTHONPATH"])
    assert "meteors_c/_core" in packed
    assert "meteors_c/_torch" not in packed
    for strict in ({"METEORS_C_TORCH": "required"}, {"METEORS_C_TORCH": "2.0"}, {"METEORS_C_WERROR": "1"}):
        done = try_to_make(project, "build_ext", "--inplace", **(beside | strict))
        assert done.returncode != 0
        assert "METEORS_C_TORCH=off builds without" in done.stderr


def test_what_earlier_builds_left_is_not_packed(project: Path) -> None:
    make(project, "build_ext", "--inplace", METEORS_C_TORCH="1.0")
    (stale,) = (project / "meteors_c").glob("_torch*.so")
    wheel(project, "off")
    packing = [folder / "wheel" for folder in (project / "build").glob("bdist.*")]
    assert packing
    for folder in [*packing, *(project / "build").glob("lib.*")]:
        (folder / "meteors_c").mkdir(parents=True, exist_ok=True)
        shutil.copy(stale, folder / "meteors_c")
        (folder / "meteors_c" / "removed.py").touch()
    packed = wheel(project, "off")
    assert not {"meteors_c/_torch", "meteors_c/removed.py"} & set(packed)

    make(project, "sdist")
    (path,) = (project / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        assert not [name for name in archive.getnames() if name.endswith((".so", ".o"))]


def test_without_the_bridge_the_one_in_place_goes(project: Path) -> None:
    make(project, "build_ext", "--inplace", METEORS_C_TORCH="2.0")
    assert len(list((project / "meteors_c").glob("_torch*.so"))) == 1
    make(project, "build_ext", "--inplace", METEORS_C_TORCH="off")
    assert not list((project / "meteors_c").glob("_torch*.so"))
    assert len(list((project / "meteors_c").glob("_core*.so"))) == 1


def test_only_what_a_change_reaches_is_compiled_again(project: Path) -> None:
    def compiled(**environment: str) -> set[str]:
        """Build in place and name the objects that are new."""
        before = {path: path.stat().st_mtime_ns for path in project.glob("build/temp.*/**/*.o")}
        make(project, "build_ext", "--inplace", **environment)
        return {
            path.stem for path in project.glob("build/temp.*/**/*.o") if before.get(path) != path.stat().st_mtime_ns
        }

    assert compiled() == {"a", "b", "module"}
    assert compiled() == set()
    (project / "src/core/a.h").touch()
    assert compiled() == {"a"}
    (project / "src/core/b.c").touch()
    assert compiled() == {"b"}
    (project / "src/core/c.h").write_text("")
    assert compiled() == set()
    (project / "src/core/b.c").write_text('#include "b.h"\n#include "c.h"\nint met_b(void) { return 3; }\n')
    assert compiled() == {"b"}
    (project / "src/core/c.h").touch()
    assert compiled() == {"b"}
    (project / "src/core/b.c").write_text('#include "b.h"\nint met_b(void) { return 2; }\n')
    (project / "src/core/c.h").unlink()
    assert compiled() == {"b"}
    assert compiled(CFLAGS="-O1") == {"a", "b", "module"}


# --- the real package: source distribution, wheel, installed ------------------------------------------------------


def sources() -> Iterator[str]:
    """Every file of the project that is made by hand."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]

    def is_made(path: Path, *further: str) -> bool:
        rules = [*ignored, ".git", *further]
        return any(fnmatch(path.as_posix(), rule) or fnmatch(path.name, rule) for rule in rules)

    for folder, folders, names in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not is_made(inside / name, "shared")]
        yield from ((inside / name).as_posix() for name in names if not is_made(inside / name, "PKG-INFO", "setup.cfg"))


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a source distribution unpacks to."""
    folder = tmp_path_factory.mktemp("sdist")
    command = ["egg_info", "--egg-base", folder, "sdist", "--formats", "tar", "--dist-dir", folder]
    run_setup(ROOT, *command)
    (path,) = folder.glob("*.tar")
    with tarfile.open(path) as archive:
        archive.extractall(folder)
    return folder / path.stem


@pytest.fixture(scope="session")
def installed(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without torch in whose packages the wheel lies that was made from the source distribution."""
    folder = tmp_path_factory.mktemp("installed")
    run_setup(unpacked, "bdist_wheel", "--dist-dir", folder)
    (path,) = folder.glob("*.whl")
    venv.create(folder / "python", symlinks=True, with_pip=False)
    (packages,) = (folder / "python").glob("lib/python*/site-packages")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(packages)
    return folder / "python" / "bin" / "python"


def run_setup(folder: Path, *command: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *command],
        cwd=folder,
        env={**os.environ, "METEORS_C_TORCH": "off"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_source_distribution_has_every_source(unpacked: Path) -> None:
    wanted = set(sources())
    assert {"Makefile", ".ci/run", "src/core/engine.c", "benchmarks/child.py", "docs/conf.py"} <= wanted
    assert [name for name in sorted(wanted) if not (unpacked / name).is_file()] == []


def test_make_finds_all_that_it_needs_in_a_source_distribution(unpacked: Path) -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (unpacked / "Makefile").read_text(), re.MULTILINE)
    assert {"build", "test", "asan", "lint", "docs", "bench", "dist-check"} <= set(targets)
    done = subprocess.run(["make", "--dry-run", *targets], cwd=unpacked, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    called = set(re.findall(r"\b(?:tools|docs|benchmarks)/[\w/]+\.py\b", done.stdout))
    assert called
    assert [name for name in sorted(called) if not (unpacked / name).is_file()] == []


USER = """
import meteors_c
from meteors_c import HSI, attr, models, options

def explain(model: models.ExplainableModel, hsi: HSI) -> str:
    explainer = attr.IntegratedGradients(model)
    with options(shortcuts=False):
        explainer.attribute(hsi, target=0, n_steps="many")
    result = explainer.attribute(hsi, target=0, n_steps=20)
    assert isinstance(result, attr.HSIAttributes)
    print(hsi.wavelengths, meteors_c.__version__, result.attributes)
    return result
"""


def test_an_installed_wheel_type_checks(installed: Path, tmp_path: Path) -> None:
    """Mypy sees the annotations of the package, and so finds the two faults of the script and no other."""
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "user.py"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key not in ("MYPYPATH", "PYTHONPATH")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = re.findall(r"^user\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert found == [("8", "arg-type"), ("12", "return-value")], done.stdout + done.stderr


def test_an_installed_wheel_is_used(installed: Path, tmp_path: Path) -> None:
    (packages,) = (installed.parents[1]).glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "zz_paths.pth").write_text("\n".join(here))
    code = """
import torch, warnings
import meteors_c as mt
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    hsi = mt.HSI(image=torch.ones(3, 2, 2), wavelengths=[1.0, 2.0, 3.0])
    model = mt.models.ExplainableModel(lambda x: x.sum((1, 2, 3))[:, None], "regression")
    assert (mt.attr.Saliency(model).attribute(hsi, target=0).attributes == 1).all()
print(mt.__file__, [str(warning.message) for warning in caught if "without its bridge" in str(warning.message)])
"""
    done = subprocess.run([installed, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert str(packages) in done.stdout
    assert "pip install --no-cache-dir --force-reinstall --no-deps" in done.stdout
    (packages / "zz_paths.pth").unlink()
