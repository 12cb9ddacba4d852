"""Builds the two extension modules; everything else about the package is in pyproject.toml.

``meteors_c._core`` is C11 against the headers of Python and NumPy. ``meteors_c._torch``, the bridge, is C++ against the
torch that is installed beside the package. Without torch, or where it does not compile, it is left out with a warning,
and models are driven through Python calls instead.

Environment: ``METEORS_C_TORCH=off`` leaves the bridge out, ``METEORS_C_TORCH=required`` makes it an error that there is
none, and ``METEORS_C_TORCH=<folder of the torch package>`` requires it for that torch; ``METEORS_C_WERROR=1`` makes
warnings errors, and a bridge that does not compile too; ``METEORS_C_OPTIMISE`` stands for -O3; ``CC``, ``CXX`` and
``CFLAGS`` work as everywhere; ``MAX_JOBS`` bounds the compilers that run at once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError, PlatformError

CORE, PYTHON, BRIDGE = (Path("src", name) for name in ("core", "python", "torch_bridge"))
BRIDGE_MODULE = "meteors_c._torch"
BRIDGE_HEADERS = BRIDGE / "torch_headers.h"  # what takes 20 s to compile, and is compiled once
# What torch says of its own extensions. It is asked in another process: this one may be isolated from it.
ASK_TORCH = """
import json, os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import torch
assert os.path.samefile(torch.__path__[0], sys.argv[1]), "another torch comes first"
from torch.utils.cpp_extension import CppExtension
extension = CppExtension("bridge", [])
pybind11 = {name: getattr(torch._C, "_" + name, None)
            for name in ("PYBIND11_COMPILER_TYPE", "PYBIND11_STDLIB", "PYBIND11_BUILD_ABI")}
macros = {name: json.dumps(value) for name, value in pybind11.items() if value}
macros |= {} if torch.compiled_with_cxx11_abi() else {"_GLIBCXX_USE_CXX11_ABI": "0"}
print("torch says", json.dumps({"macros": macros, "include_dirs": extension.include_dirs,
                                "library_dirs": extension.library_dirs, "libraries": extension.libraries}))
"""
OPTIMISE = [os.environ.get("METEORS_C_OPTIMISE", "-O3"), "-g0", "-fno-math-errno", "-fvisibility=hidden"]
WARN = ["-Wall", "-Wextra", "-Wshadow"]
# Python.h sets the latter by itself, and what it and NumPy expand to is not written for the former.
CORE_ONLY = ["-Wconversion", "-D_POSIX_C_SOURCE=200809L"]
WRITE_DEPENDENCIES = ["-MMD", "-MP"]  # beside each object, a rule of make that names the headers it was made from
REINSTALL = "pip install --no-cache-dir --force-reinstall --no-deps"
WISH = os.environ.get("METEORS_C_TORCH", "")


def warn(sentence: str) -> None:
    print(f"meteors_c: {sentence}", file=sys.stderr, flush=True)


def find_torch() -> tuple[Path, str] | None:
    """The installed torch as (its folder, its version), without importing it; None, and why, if there is none.

    An isolated build hides the site-packages of the interpreter, but the extension will be loaded beside the torch
    that is there: so it is there that we look.
    """
    if WISH.lower() in ("off", "no", "0"):
        warn("built without the native torch bridge, as METEORS_C_TORCH asks.")
        return None
    named = Path(WISH) if WISH and WISH != "required" else None
    paths = sysconfig.get_paths()
    roots = [*sys.path, paths["platlib"], paths["purelib"], site.getusersitepackages()]
    for folder in [named] if named else [Path(root, "torch") for root in roots]:
        stated = folder / "version.py"
        if stated.is_file() and (folder / "include" / "torch").is_dir():
            version = re.search(r"""^__version__.*?=\s*['"]([^'"]+)""", stated.read_text(), re.MULTILINE)
            if version:
                return folder.absolute(), version.group(1)
    if named:
        sys.exit(f"error: METEORS_C_TORCH={WISH} is not the folder of an installed torch package with headers.")
    if WISH == "required":
        sys.exit("error: METEORS_C_TORCH=required, but no torch is installed beside this Python.")
    warn(
        "no torch found beside this Python, so the native torch bridge is left out and models run through "
        f"Python calls. To get it, install torch, and then meteors_c again: {REINSTALL} <source of meteors_c>. Where "
        "torch is in other folders of this Python, add --no-build-isolation or set METEORS_C_TORCH."
    )
    return None


def bridge_is_required() -> bool:
    return bool(werror()) or WISH == "required" or Path(WISH, "version.py").is_file()


def flags_of_torch(folder: Path) -> dict[str, Any]:
    """How torch compiles extensions: macros, include_dirs, library_dirs and libraries, by its `cpp_extension`.

    A torch that can't be loaded here, as one whose GPU libraries are missing, is read instead: its folders are those
    of every wheel. Its CMake file names the layout of std::string, and its library the compiler ABI by which pybind11
    before 3 shares types among modules.
    """
    asked = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK_TORCH, str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = re.search(r"^torch says (.*)$", asked.stdout, re.MULTILINE)
    if asked.returncode == 0 and said:
        return dict(json.loads(said.group(1)))
    why = (asked.stderr.strip().splitlines() or ["it says nothing"])[-1]
    warn(f"the torch in {folder} can't be imported here ({why}): the bridge is compiled by the layout of its folder.")
    config = folder / "share" / "cmake" / "Torch" / "TorchConfig.cmake"
    strings = re.search(r"-D(_GLIBCXX_USE_CXX11_ABI)=([01])", config.read_text()) if config.is_file() else None
    library = folder / "lib" / "libtorch_python.so"
    types = re.search(rb"__pybind11_internals_v\w+?(_cxxabi\d+)__", library.read_bytes()) if library.is_file() else None
    include = folder / "include"
    return {
        "macros": {
            **({strings.group(1): strings.group(2)} if strings else {}),
            **({"PYBIND11_BUILD_ABI": f'"{types.group(1).decode()}"'} if types else {}),
        },
        "include_dirs": [str(include), str(include / "torch" / "csrc" / "api" / "include")],
        "library_dirs": [str(folder / "lib")],
        "libraries": ["c10", "torch", "torch_cpu", "torch_python"],
    }


def standard_of_torch(folder: Path) -> str:
    """The C++ standard that torch compiles extensions under where they name none; its headers need no newer one."""
    source = folder / "utils" / "cpp_extension.py"
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    found = re.search(r"""cpp_flag_prefix \+ ['"](c\+\+\d\d)['"]""", text)
    return found.group(1) if found else "c++20"


def files(folder: Path, pattern: str) -> list[str]:
    return sorted(path.as_posix() for path in folder.glob(pattern))


def system_includes(*folders: str | Path) -> list[str]:
    """Include other people's headers without their warnings."""
    return [argument for folder in folders for argument in ("-isystem", str(folder))]


def werror() -> list[str]:
    return ["-Werror"] if os.environ.get("METEORS_C_WERROR", "0") not in ("", "0") else []


def core_extension() -> Extension:
    try:
        import numpy
    except ImportError:
        sys.exit("error: meteors_c needs NumPy to be built: pip install numpy")
    return Extension(
        "meteors_c._core",
        sources=files(CORE, "*.c") + files(PYTHON, "*.c"),
        depends=[*files(CORE, "*.h"), *files(PYTHON, "*.h")],
        include_dirs=[CORE.as_posix()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_23_API_VERSION")],
        libraries=[] if sys.platform == "darwin" else ["m"],
        extra_compile_args=[
            "-std=c11", *OPTIMISE, *WARN, *werror(),
            *system_includes(sysconfig.get_paths()["include"], numpy.get_include()),
        ],
    )  # fmt: skip


def bridge_extension(version: str) -> Extension:
    """The bridge without the flags that torch gives, which `add_flags_of_torch` adds when it is built."""
    return Extension(
        BRIDGE_MODULE,
        language="c++",
        sources=files(BRIDGE, "**/*.cpp"),
        depends=[*files(BRIDGE, "**/*.h"), *files(CORE, "*.h")],
        include_dirs=[CORE.as_posix(), BRIDGE.as_posix()],
        define_macros=[("METEORS_C_TORCH_VERSION", f'"{version}"')],
    )


def add_flags_of_torch(ext: Extension, folder: Path) -> None:
    # Torch brings an OpenMP runtime. Compiled with -fopenmp, at::parallel_for runs on torch's threads; linked without
    # it, the symbols resolve in the runtime that torch has loaded and no second pool starts beside it.
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    torch = flags_of_torch(folder)
    ext.define_macros += torch["macros"].items()
    ext.library_dirs += torch["library_dirs"]
    ext.libraries += torch["libraries"]  # found at run time because torch is imported first
    ext.extra_compile_args += [
        f"-std={standard_of_torch(folder)}", *OPTIMISE, *openmp, *WARN, *werror(),
        *system_includes(*torch["include_dirs"], sysconfig.get_paths()["include"]),
    ]  # fmt: skip


TORCH = find_torch() if files(BRIDGE, "**/*.cpp") else None


def extensions() -> list[Extension]:
    return [core_extension(), *([bridge_extension(TORCH[1])] if TORCH else [])]


def build_folder(kind: str, base: str = "build") -> str:
    """The folder for objects ("temp") or the package ("lib") that are made for this Python and this torch alone."""
    python = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}{sys.abiflags}"
    torch = f"torch-{TORCH[1]}-{standard_of_torch(TORCH[0])}" if TORCH else "no-torch"
    return os.path.join(base, f"{kind}.{python}-{torch}")


class Build(build):
    """Packs what this build has made and nothing that an earlier one has left."""

    sub_commands: ClassVar[list[Any]] = [*build.sub_commands, ("build_pth", None)]

    def finalize_options(self) -> None:
        self.in_own_folder = self.build_lib is None
        self.build_lib = self.build_lib or build_folder("lib", self.build_base)
        self.build_temp = self.build_temp or build_folder("temp", self.build_base)
        super().finalize_options()

    def run(self) -> None:
        if self.in_own_folder:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class Wheel(bdist_wheel):
    """Starts from an empty folder, also where a build before this one was interrupted."""

    def run(self) -> None:
        shutil.rmtree(self.bdist_dir, ignore_errors=True)
        super().run()


class BuildChanged(build_ext):
    """Compiles only what changed, several files at once, through ccache where there is one."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.inplace:  # an editable install too: it would throw the objects away with its temporary folder
            self.build_temp = build_folder("temp")

    def run(self) -> None:
        super().run()
        if BRIDGE_MODULE not in (ext.name for ext in self.extensions):
            # One that an earlier build has left would be packed, or loaded, in place of none.
            name = self.get_ext_filename(BRIDGE_MODULE)
            for stale in [Path(self.build_lib, name), *([Path(name)] if self.inplace else [])]:
                stale.unlink(missing_ok=True)

    def build_extensions(self) -> None:
        if sys.platform == "win32":
            raise PlatformError("meteors_c is not built for Windows: use Linux, macOS or WSL.")
        headers = Path(sysconfig.get_paths()["include"])
        if not (headers / "Python.h").is_file():
            raise PlatformError(f"meteors_c needs the headers of Python, but {headers} has no Python.h.")
        if missing := self.missing("compiler_so"):
            raise PlatformError(f"meteors_c needs a C compiler to be built, but there is no {missing!r} here.")
        core, bridge = ([ext for ext in self.extensions if (ext.language == "c++") == cxx] for cxx in (False, True))
        self.extensions = core
        super().build_extensions()
        if bridge and TORCH and self.builds_bridge(bridge[0], TORCH[0]):
            self.extensions = [*core, *bridge]

    def builds_bridge(self, bridge: Extension, torch: Path) -> bool:
        """Whether the bridge could be built; where it need not be, a warning says why it could not."""
        try:
            if missing := self.missing("compiler_so_cxx"):
                raise PlatformError(f"there is no C++ compiler ({missing!r})")
            add_flags_of_torch(bridge, torch)
            self.build_extension(bridge)
        except (CompileError, LinkError, PlatformError) as error:
            if bridge_is_required():
                raise type(error)(f"{error}; METEORS_C_TORCH=off builds without the torch bridge.") from error
            warn(
                f"{error}, so the native torch bridge is left out and models run through Python calls: same numbers, "
                "no shortcuts. METEORS_C_TORCH=required makes this an error."
            )
            return False
        return True

    def missing(self, kind: str) -> str | None:
        """Name a compiler that is not there; put ccache before one that is."""
        command = getattr(self.compiler, kind)
        if shutil.which(command[0]) is None:
            return str(command[0])
        if shutil.which("ccache") and "ccache" not in command[0]:
            self.compiler.set_executables(**{kind: ["ccache", *command]})
        return None

    def build_extension(self, ext: Extension) -> None:
        compile_one = self.compiler.compile
        command = (self.compiler.compiler_so, self.compiler.compiler_so_cxx, ext.define_macros, ext.include_dirs)
        if ext.language == "c++":
            ext.extra_compile_args += self.precompiled(ext)

        def compile_changed(sources: list[str], extra_postargs: list[str] = [], **options: Any) -> list[str]:  # noqa: B006
            def compile_source(source: str) -> str:
                (made,) = self.compiler.object_filenames([source], output_dir=options["output_dir"])
                own = CORE_ONLY if Path(source).parent == CORE else []
                arguments = [*extra_postargs, *own, *WRITE_DEPENDENCIES]
                record, flags = Path(f"{made}.flags"), repr((command, arguments))
                if not (record.is_file() and record.read_text() == flags and is_current(Path(made))):
                    record.unlink(missing_ok=True)
                    start = time.time()
                    compile_one([source], extra_postargs=arguments, **options)
                    os.utime(made, (start, start))  # what is saved while the compiler runs is newer
                    record.write_text(flags)
                return made

            jobs = int(os.environ.get("MAX_JOBS", 0)) or os.cpu_count() or 1
            with ThreadPoolExecutor(jobs) as pool:
                return list(pool.map(compile_source, sources))

        self.force = True  # linking costs nothing and follows files that were removed
        self.compiler.compile = compile_changed
        try:
            super().build_extension(ext)
        except CompileError as error:
            raise CompileError(f"{ext.name} does not compile (the compiler says why, above)") from error
        finally:
            self.compiler.compile = compile_one

    def precompiled(self, ext: Extension) -> list[str]:
        """Compile torch's headers once, where the compiler is GCC; the arguments by which it takes them.

        A header that doesn't fit, or none, changes nothing but the time.
        """
        compiler = [word for word in self.compiler.compiler_so_cxx if word != "ccache"]
        version = subprocess.run([compiler[0], "--version"], capture_output=True, text=True, check=False).stdout
        if "Free Software Foundation" not in version:
            return []
        os.environ.setdefault("CCACHE_SLOPPINESS", "pch_defines,time_macros")
        folder = Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)
        header = folder / BRIDGE_HEADERS.name
        made = header.with_suffix(".h.gch")
        macros = [f"-D{name}={value}" for name, value in ext.define_macros]
        flags = [*compiler[1:], *macros, *(f"-I{path}" for path in ext.include_dirs), *ext.extra_compile_args]
        record, text = folder / "torch_headers.flags", repr(([*compiler, *flags], BRIDGE_HEADERS.read_text()))
        if not (made.is_file() and record.is_file() and record.read_text() == text):
            shutil.copyfile(BRIDGE_HEADERS, header)
            print("meteors_c: compiling torch's headers", flush=True)
            command = [compiler[0], *flags, "-x", "c++-header", str(header), "-o", str(made)]
            if subprocess.run(command, check=False).returncode != 0:
                made.unlink(missing_ok=True)
                return []
            record.write_text(text)
        return ["-include", str(header), "-fpch-preprocess"]


def is_current(made: Path) -> bool:
    """Whether an object is newer than its source and every header of ours that the compiler read for it."""
    rule = made.with_suffix(".d")
    if not (made.is_file() and rule.is_file()):
        return False
    age = os.path.getmtime(made)
    return all(os.path.isfile(path) and os.path.getmtime(path) < age for path in prerequisites(rule.read_text()))


def prerequisites(rules: str) -> list[str]:
    """The prerequisites of the first rule in the language of make, which is the one for the object."""
    first = rules.replace("\\\n", " ").partition("\n")[0].partition(": ")[2]
    return [re.sub(r"\\([ #])", r"\1", path).replace("$$", "$") for path in re.split(r"(?<!\\)\s+", first) if path]


class BuildPth(Command):
    """Puts meteors_c.pth beside the packages, the one folder where Python reads it, also for an editable install."""

    FILE = "meteors_c.pth"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []

    def initialize_options(self) -> None:
        self.build_lib: Any = None  # what finalize_options fills
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        self.mkpath(folder)
        self.copy_file(self.FILE, folder)

    def get_source_files(self) -> list[str]:
        return [self.FILE]

    def get_outputs(self) -> list[str]:
        return [os.path.join(self.build_lib, self.FILE)]

    def get_output_mapping(self) -> dict[str, str]:
        return {self.get_outputs()[0]: self.FILE}


setup(
    ext_modules=extensions(),
    cmdclass={"bdist_wheel": Wheel, "build": Build, "build_ext": BuildChanged, "build_pth": BuildPth},
)
