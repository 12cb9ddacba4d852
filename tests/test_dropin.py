"""Programs that know only ``meteors`` run on meteors_c: the four entry points, and names that are missing."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pickle
import py_compile
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import meteors_c
import meteors_c.attr
import meteors_c.hsi
from meteors_c import dropin

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "tests" / "dropin_scripts"
SHOWCASE = str(SCRIPTS / "showcase.py")

# A meteors of another make: its modules import each other in every way, at once and when they are called.
PEER = {
    "__init__.py": """
from meteors import attr, shap
from .hsi import HSI
import meteors.hsi as again
assert again.HSI is HSI
BEYOND = "beyond"
""",
    "hsi.py": "class HSI: pass\ndef helper(): pass\n",
    "attr/__init__.py": "from meteors.attr.lime import Lime\nclass Saliency: pass\n",
    "attr/lime.py": """
from ..hsi import HSI
class Lime:
    def attribute(self, hsi):
        import meteors.attr.late
        from meteors.hsi import HSI as late_HSI
        assert late_HSI is HSI and meteors.attr.late.HSI is HSI
        if not isinstance(hsi, HSI):
            raise TypeError("hsi should be an HSI")
        return "attributed"
""",
    "attr/late.py": "from meteors import HSI\n",
    "shap/__init__.py": "from .explainer import HyperSHAP\n",
    "shap/explainer.py": "class HyperSHAP: pass\n",
}


def write_peer(folder: Path) -> Path:
    for name, text in PEER.items():
        (folder / "meteors" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "meteors" / name).write_text(text)
    return folder


@pytest.fixture
def peer_folder(tmp_path: Path) -> Path:
    return write_peer(tmp_path / "peer")


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has meteors_c.pth among its packages, and sees those of this one."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "00_paths.pth").write_text("\n".join([str(ROOT), *here]))
    (packages / "meteors_c.pth").write_bytes((ROOT / "meteors_c.pth").read_bytes())
    return folder / "bin" / "python"


@pytest.fixture
def clean() -> Iterator[None]:
    """Leave no alias and no peer behind in this process."""
    assert "meteors" not in sys.modules
    path = list(sys.meta_path)
    yield
    dropin.uninstall()
    for name in [name for name in sys.modules if name.split(".")[0] in ("meteors", "_meteors_peer")]:
        del sys.modules[name]
    sys.meta_path[:] = path


def run(
    *command: str | Path, python: str | Path = sys.executable, paths: tuple[Path, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key != "METEORS_C"}
    path = os.pathsep.join(map(str, [*paths, ROOT]))
    return subprocess.run(
        [python, *command],
        env={**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


INSTALL = "import runpy, sys, meteors_c; meteors_c.install(); runpy.run_path(sys.argv[1])"
LOAD_EXT = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "meteors_c")
shell.run_cell(open(sys.argv[1]).read()).raise_error()
shell.run_line_magic("unload_ext", "meteors_c")
assert "meteors" not in sys.modules
"""


@pytest.mark.parametrize(
    ("entry_point", "peer"),
    [("install", False), ("install", True), ("load_ext", False), ("-m", True), ("environment", True)],
)
def test_four_entry_points(entry_point: str, peer: bool, peer_folder: Path, started: Path) -> None:
    paths = (peer_folder,) if peer else ()
    done = {
        "install": lambda: run("-c", INSTALL, SHOWCASE, paths=paths),
        "load_ext": lambda: run("-c", LOAD_EXT, SHOWCASE, paths=paths),
        "-m": lambda: run("-m", "meteors_c", SHOWCASE, paths=paths),
        "environment": lambda: run(SHOWCASE, python=started, paths=paths, METEORS_C="1"),
    }[entry_point]()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [name for name, held in found["checks"].items() if not held] == []
    assert found["backend"] == "meteors_c.hsi"
    lacks_attribute, lacks_import, lacks_module = found["errors"]
    assert "meteors_c lacks 'NeverHeardOf' in module 'meteors_c.attr'" in lacks_attribute
    assert lacks_import == lacks_attribute
    assert "No module named 'meteors.never_heard_of': meteors_c lacks it" in lacks_module

    torch.manual_seed(0)
    model = torch.nn.Linear(24, 2)
    torch.rand(4, 2, 3)
    assert found["attributes"] == pytest.approx(model.weight[1].abs().tolist())


def test_script_that_knows_only_meteors_needs_an_entry_point() -> None:
    done = run(SHOWCASE)
    assert done.returncode == 1
    assert "No module named 'meteors'" in done.stderr


# --- what stays of Python's own behaviour ------------------------------------------------------------------------

ENDINGS = ["", "raise", "chain", "hook", "interrupt", "status", "message"]
COMMANDS: list[list[str]] = [
    *([str(SCRIPTS / "main.py"), ending, "-x", "--fallback"] for ending in ENDINGS),
    *(["-m", "main", ending] for ending in ENDINGS),
    ["link.py", "raise"],
    ["broken.py"],
    ["missing.py"],
    ["-m", "missing_module"],
    ["-m", "json.tool", "missing.json"],
    ["folder", "raise"],
    ["archive.zip", "status"],
    ["compiled.pyc", "raise"],
    ["."],
]
if sys.version_info >= (3, 11):  # -P keeps the script's folder off the path
    COMMANDS += [["-P", *command] for command in COMMANDS if command[-1] == "raise"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_program_sees_plain_python(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("x = (1\n")
    (tmp_path / "link.py").symlink_to(SCRIPTS / "main.py")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text((SCRIPTS / "main.py").read_text())
    (tmp_path / "folder" / "helper.py").write_text("WORD = 'in the folder'")
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.write("folder/__main__.py", "__main__.py")
        archive.write("folder/helper.py", "helper.py")
    py_compile.compile(str(SCRIPTS / "main.py"), "compiled.pyc", doraise=True)
    flags = int(command[0] == "-P")
    plain = run(*command, paths=(SCRIPTS,))
    ours = run(*command[:flags], "-m", "meteors_c", *command[flags:], paths=(SCRIPTS,))
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert plain.stdout or plain.stderr


def test_usage() -> None:
    shown = run("-m", "meteors_c", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: python -m meteors_c [--fallback] script.py")
    for wrong in ([], ["-m"], ["--fallback"], ["--nonsense", "script.py"]):
        done = run("-m", "meteors_c", *wrong)
        assert done.returncode == 2
        assert "usage: python -m meteors_c" in done.stderr


def test_programs_that_a_program_starts_use_the_same_entry_point(started: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import subprocess, sys\nprint('torch' in sys.modules, flush=True)\n"
        "code = 'import sys; first = sys.meta_path[0]; print(type(first).__name__, first.fallback)'\n"
        "subprocess.run([sys.executable, '-c', code])"
    )
    for option, fallback in ([], "False"), (["--fallback"], "True"):
        done = run("-m", "meteors_c", *option, tmp_path / "script.py", python=started)
        assert done.stdout.split() == ["False", "StartupFinder", fallback], done.stderr


# --- the .pth file -----------------------------------------------------------------------------------------------

LOADED = "import sys; print(*sorted(sys.modules))"


@pytest.mark.parametrize("value", [None, "", "0"])
def test_pth_costs_nothing_when_unset(started: Path, value: str | None) -> None:
    with_pth = run("-c", LOADED, python=started, **({} if value is None else {"METEORS_C": value}))
    assert with_pth.returncode == 0, with_pth.stderr
    without = run("-S", "-c", "import site; site.main(); " + LOADED, python=started)
    assert set(with_pth.stdout.split()) <= set(without.stdout.split())
    assert not {name for name in with_pth.stdout.split() if "meteors" in name or name == "torch"}


def test_pth_imports_one_small_module_when_set(started: Path) -> None:
    unset = run("-c", LOADED, python=started)
    done = run("-c", LOADED, python=started, METEORS_C="1")
    more = set(done.stdout.split()) - set(unset.stdout.split())
    assert {"_meteors_c_startup"} <= more <= {"_meteors_c_startup", "__future__"}


def test_pth_is_built_beside_the_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", tmp_path),
            *("build_pth", "build_py", "--build-lib", tmp_path),
        ],
        cwd=ROOT,
        env={**os.environ, "METEORS_C_TORCH": "off"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "meteors_c.pth").read_text() == (ROOT / "meteors_c.pth").read_text()
    assert (tmp_path / "_meteors_c_startup.py").is_file()


def test_environment_asks_for_the_fallback(started: Path, peer_folder: Path) -> None:
    code = "import meteors; print(meteors.BEYOND, meteors.dropin.report())"
    done = run("-c", code, python=started, paths=(peer_folder,), METEORS_C="fallback")
    assert done.stdout.strip() == "beyond ['meteors.BEYOND']", done.stderr


# --- aliases, in this process ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clean")
def test_aliases_are_the_same_objects() -> None:
    meteors_c.install()
    methods, shap = (".attr", ".attr.input_x_gradients"), (".shap", ".shap.shap", ".shap.explainer")
    figures = (".visualize.hsi_visualize", ".visualize.shap_visualize")
    for name in ("", ".hsi", *methods, ".models", *shap, *figures, ".datasets"):
        alias = importlib.import_module("meteors" + name)
        assert alias is importlib.import_module("meteors_c" + name)
        assert alias.__spec__ is not None
        assert alias.__spec__.name == alias.__name__ == "meteors_c" + name
    assert not hasattr(meteors_c.hsi, "__path__")
    assert importlib.util.find_spec("meteors.attr") is not None


@pytest.mark.usefixtures("clean")
def test_pickles_and_reload() -> None:
    meteors_c.install()
    import meteors

    hsi = meteors.HSI(image=torch.rand(3, 2, 2), wavelengths=[1.0, 2.0, 3.0])
    stored = pickle.dumps(hsi)
    for name in ("meteors", "meteors.attr", "meteors.utils"):
        module = sys.modules[name]
        assert importlib.reload(module) is module is sys.modules[name]
    assert pickle.loads(stored) == hsi
    with pytest.raises(AttributeError, match="meteors_c lacks"):
        meteors.attr.Nothing  # noqa: B018
    dropin.uninstall()
    assert pickle.loads(stored) == hsi


@pytest.mark.usefixtures("clean")
def test_install_and_uninstall_can_be_repeated() -> None:
    before, finders = set(sys.modules), list(sys.meta_path)
    dropin.uninstall()
    for _ in range(2):
        meteors_c.install()
        meteors_c.install()
        assert len(sys.meta_path) == len(finders) + 1
        assert "meteors.attr.saliency" in sys.modules
        meteors_c.uninstall()
        assert sys.meta_path == finders
        assert {name for name in set(sys.modules) - before if not name.startswith("meteors_c")} == set()
        assert type(meteors_c) is type(meteors_c.attr) is ModuleType
    with pytest.raises(ModuleNotFoundError, match="No module named 'meteors'"):
        importlib.import_module("meteors")
    with pytest.raises(AttributeError, match="module 'meteors_c' has no attribute 'Nothing'"):
        meteors_c.Nothing  # noqa: B018


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("imported", ["meteors", "meteors.hsi"])
def test_real_meteors_imported_before_is_refused(
    imported: str, peer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(peer_folder)
    importlib.import_module(imported)
    if imported != "meteors":
        del sys.modules["meteors"]
    before, finders = dict(sys.modules), list(sys.meta_path)
    for call in (meteors_c.install, lambda: meteors_c.load_ipython_extension(None)):
        with pytest.raises(RuntimeError, match=r"meteors is imported already \('.*\.py'\).*before the first import"):
            call()
    meteors_c.uninstall()
    assert sys.modules == before
    assert sys.meta_path == finders


@pytest.mark.usefixtures("clean")
def test_blocked_import_is_blocked_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "meteors", None)  # type: ignore[arg-type]
    meteors_c.install()
    assert importlib.import_module("meteors") is meteors_c
    meteors_c.uninstall()
    assert sys.modules["meteors"] is None


# --- names that meteors_c lacks ----------------------------------------------------------------------------------


def ask(name: str) -> Any:
    """Ask for a name in every way, and give what attribute access says."""
    module, _, attribute = name.rpartition(".")
    with pytest.raises(ImportError) as from_import:
        exec(f"from {module} import {attribute}")
    if hasattr(importlib.import_module(module), "__path__"):
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'.*meteors_c lacks it"):
            importlib.import_module(name)
    with pytest.raises(AttributeError) as caught:
        getattr(importlib.import_module(module), attribute)
    assert type(from_import.value) is ImportError
    assert from_import.value.name == importlib.import_module(module).__name__
    assert str(from_import.value) == str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("clean")
def test_missing_names_say_so(peer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(peer_folder)
    meteors_c.install()
    for name in ("meteors.BEYOND", "meteors.attr.Beyond", "meteors.hsi.helper"):
        message = ask(name)
        assert f"meteors_c lacks '{name.split('.')[-1]}' in module 'meteors_c" in message
        assert "meteors_c.install(fallback=True)" in message
    assert not hasattr(meteors_c, "BEYOND")
    assert dropin.report() == []
    assert "_meteors_peer" not in sys.modules


@pytest.mark.usefixtures("clean")
def test_names_that_python_asks_for_stay_plain() -> None:
    meteors_c.install()
    for name in ("__path__", "__wrapped__", "__nothing__"):
        assert not hasattr(meteors_c.hsi, name)
        with pytest.raises(AttributeError, match=f"module 'meteors_c.hsi' has no attribute '{name}'"):
            getattr(meteors_c.hsi, name)
    with pytest.raises(ImportError, match="cannot import name '__nothing__' from 'meteors_c.hsi'"):
        exec("from meteors.hsi import __nothing__")


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("before", [0, 300], ids=["first name", "name behind many others"])
def test_a_from_import_is_known_anywhere_in_a_program(before: int) -> None:
    meteors_c.install()
    code = "\n".join([*(f"x{i} = {i}" for i in range(before)), "from meteors.attr import Saliency, Nothing"])
    with pytest.raises(ImportError, match="meteors_c lacks 'Nothing' in module 'meteors_c.attr'"):
        exec(code, {})
    with pytest.raises(ImportError, match="meteors_c lacks 'Nothing'"):
        exec("def later():\n    from meteors.attr import Nothing as Other\nlater()", {})


@pytest.mark.usefixtures("clean")
def test_fallback_without_a_peer_says_so() -> None:
    meteors_c.install(fallback=True)
    assert "no meteors is installed" in ask("meteors.BEYOND")
    with pytest.raises(ImportError, match="no meteors is installed"):
        dropin.peer()
    assert dropin.report() == []


@pytest.mark.usefixtures("clean")
def test_fallback_with_a_broken_peer_says_why(peer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (peer_folder / "meteors" / "__init__.py").write_text("import none_such_dependency")
    monkeypatch.syspath_prepend(peer_folder)
    meteors_c.install(fallback=True)
    assert "can't take it from meteors: No module named 'none_such_dependency'" in ask("meteors.BEYOND")


@pytest.mark.usefixtures("clean")
def test_fallback_takes_names_and_reports_each(
    peer_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(peer_folder)
    caplog.set_level("INFO", logger="meteors_c")
    meteors_c.install(fallback=True)
    import meteors
    from meteors import BEYOND, HSI
    from meteors.attr import Saliency
    from meteors.hsi import helper

    assert HSI is meteors_c.HSI
    assert Saliency is meteors_c.attr.Saliency
    assert meteors.BEYOND == BEYOND == "beyond"
    assert helper is dropin.peer().hsi.helper
    assert dropin.report() == ["meteors.BEYOND", "meteors.hsi.helper"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} is taken from the installed meteors: meteors_c lacks it" for name in dropin.report()
    ]
    assert "meteors_c lacks 'Nothing' in module 'meteors_c.attr', and so does the installed" in ask(
        "meteors.attr.Nothing"
    )
    assert not hasattr(meteors, "__wrapped__")
    meteors_c.uninstall()
    assert not hasattr(meteors_c, "BEYOND")
    assert importlib.import_module("meteors").attr.Saliency is not meteors_c.attr.Saliency


@pytest.mark.usefixtures("clean")
def test_fallback_to_whole_modules(peer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (peer_folder / "meteors" / "beyond").mkdir()
    (peer_folder / "meteors" / "beyond" / "__init__.py").write_text("from . import inner")
    (peer_folder / "meteors" / "beyond" / "inner.py").write_text("from meteors import HSI")
    monkeypatch.syspath_prepend(peer_folder)
    meteors_c.install(fallback=True)
    import meteors.beyond.inner

    peer = dropin.peer()
    assert meteors.beyond is sys.modules["meteors.beyond"] is peer.beyond
    assert meteors.beyond.inner.HSI is peer.HSI is not meteors_c.HSI
    assert dropin.report() == ["meteors.beyond", "meteors.beyond.inner"]
    meteors_c.uninstall()
    assert not hasattr(meteors_c, "beyond")
    assert not [name for name in sys.modules if name.startswith("meteors.")]


@pytest.mark.usefixtures("clean")
def test_peer_stays_whole(peer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its classes know each other alone, also in imports that run when a function is called; nothing is converted."""
    monkeypatch.syspath_prepend(peer_folder)
    meteors_c.install(fallback=True)
    peer = dropin.peer()
    lime = peer.attr.Lime()
    assert lime.attribute(peer.HSI()) == "attributed"
    hsi = meteors_c.HSI(image=torch.rand(3, 2, 2), wavelengths=[1.0, 2.0, 3.0])
    assert not isinstance(hsi, peer.HSI)
    with pytest.raises(TypeError, match="hsi should be an HSI"):
        lime.attribute(hsi)
    assert sys.modules["meteors"] is meteors_c
    assert all(module.__name__.startswith("meteors_c") for module in vars(meteors_c).values() if is_part(module))
    meteors_c.uninstall()
    assert lime.attribute(peer.HSI()) == "attributed"


def is_part(value: object) -> bool:
    return isinstance(value, ModuleType) and "meteors" in value.__name__


@pytest.mark.usefixtures("clean")
def test_fallback_can_be_switched(peer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(peer_folder)
    meteors_c.install()
    assert not hasattr(meteors_c, "BEYOND")
    meteors_c.install(fallback=True)
    assert meteors_c.BEYOND == "beyond"
    meteors_c.install()
    assert not hasattr(meteors_c, "BEYOND")
