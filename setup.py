"""Builds the two extension modules; everything else about the package is in pyproject.toml.

``meteors_c._core`` is C11 against the headers of Python and NumPy. ``meteors_c._torch`` is C++ against the torch that
is installed beside the package; without one it is left out, and models are driven through Python calls instead.

Environment: ``METEORS_C_WERROR=1`` makes warnings errors; ``METEORS_C_TORCH=off`` leaves the bridge out, and
``METEORS_C_TORCH=<folder of the torch package>`` names the torch to build against; ``CC``, ``CXX`` and ``CFLAGS`` work
as everywhere; ``MAX_JOBS`` bounds the compilers that run at once.
"""

from __future__ import annotations

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
from setuptools.errors import CompileError, PlatformError

CORE, PYTHON, BRIDGE = (Path("src", name) for name in ("core", "python", "torch_bridge"))
BRIDGE_MODULE = "meteors_c._torch"
BRIDGE_HEADERS = BRIDGE / "torch_headers.h"  # what takes 20 s to compile, and is compiled once
# The oldest standard that the headers of the newest torch compile under; those of the oldest compile under it too.
CXX_STANDARD = "c++20"
OPTIMISE = ["-O3", "-g0", "-fno-math-errno", "-fvisibility=hidden"]
WARN = ["-Wall", "-Wextra", "-Wshadow"]
# Python.h sets the latter by itself, and what it and NumPy expand to is not written for the former.
CORE_ONLY = ["-Wconversion", "-D_POSIX_C_SOURCE=200809L"]
WRITE_DEPENDENCIES = ["-MMD", "-MP"]  # beside each object, a rule of make that names the headers it was made from
REINSTALL = "pip install --no-cache-dir --force-reinstall --no-deps"


def find_torch() -> tuple[Path, str] | None:
    """The installed torch as (its folder, its version), without importing it; None, and why, if there is none.

    An isolated build hides the site-packages of the interpreter, but the extension will be loaded beside the torch
    that is there: so it is there that we look.
    """
    wish = os.environ.get("METEORS_C_TORCH", "")
    if wish.lower() in ("off", "no", "0"):
        print("meteors_c: built without the native torch bridge, as METEORS_C_TORCH asks.", file=sys.stderr)
        return None
    paths = sysconfig.get_paths()
    roots = [*sys.path, paths["platlib"], paths["purelib"], site.getusersitepackages()]
    for folder in [Path(wish)] if wish else [Path(root, "torch") for root in roots]:
        stated = folder / "version.py"
        if stated.is_file() and (folder / "include" / "torch").is_dir():
            version = re.search(r"""^__version__.*?=\s*['"]([^'"]+)""", stated.read_text(), re.MULTILINE)
            if version:
                return folder, version.group(1)
    if wish:
        sys.exit(f"error: METEORS_C_TORCH={wish} is not the folder of an installed torch package with headers.")
    print(
        "meteors_c: no torch found beside this Python, so the native torch bridge is left out and models run through "
        f"Python calls. To get it, install torch, and then meteors_c again: {REINSTALL} <source of meteors_c>. Where "
        "torch is in other folders of this Python, add --no-build-isolation or set METEORS_C_TORCH.",
        file=sys.stderr,
    )
    return None


def torch_abi(folder: Path) -> list[tuple[str, str | None]]:
    """The macros by which objects fit an old torch: its layout of std::string, and its registry of pybind11's types.

    Wheels of torch 2.6 have the std::string of GCC 4 and say so in their CMake file. pybind11 before 3 shares its types
    among modules that name the same compiler ABI only, so we name that of the module which made torch's.
    """
    config = folder / "share" / "cmake" / "Torch" / "TorchConfig.cmake"
    strings = re.search(r"-D(_GLIBCXX_USE_CXX11_ABI)=([01])", config.read_text()) if config.is_file() else None
    library = folder / "lib" / "libtorch_python.so"
    types = re.search(rb"__pybind11_internals_v\w+?(_cxxabi\d+)__", library.read_bytes()) if library.is_file() else None
    return [
        *([(strings.group(1), strings.group(2))] if strings else []),
        *([("PYBIND11_BUILD_ABI", f'"{types.group(1).decode()}"')] if types else []),
    ]


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


def bridge_extension(folder: Path, version: str) -> Extension:
    # Torch brings an OpenMP runtime. Compiled with -fopenmp, at::parallel_for runs on torch's threads; linked without
    # it, the symbols resolve in the runtime that torch has loaded and no second pool starts beside it.
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    include = folder / "include"
    return Extension(
        BRIDGE_MODULE,
        language="c++",
        sources=files(BRIDGE, "**/*.cpp"),
        depends=[*files(BRIDGE, "**/*.h"), *files(CORE, "*.h")],
        include_dirs=[CORE.as_posix(), BRIDGE.as_posix()],
        define_macros=[("METEORS_C_TORCH_VERSION", f'"{version}"'), *torch_abi(folder)],
        library_dirs=[str(folder / "lib")],
        libraries=["c10", "torch_cpu", "torch", "torch_python"],  # found at run time because torch is imported first
        extra_compile_args=[
            f"-std={CXX_STANDARD}", *OPTIMISE, *openmp, *WARN, *werror(),
            *system_includes(
                include, include / "torch" / "csrc" / "api" / "include", sysconfig.get_paths()["include"]
            ),
        ],
    )  # fmt: skip


TORCH = find_torch() if files(BRIDGE, "**/*.cpp") else None


def extensions() -> list[Extension]:
    return [core_extension(), *([bridge_extension(*TORCH)] if TORCH else [])]


def build_folder(kind: str, base: str = "build") -> str:
    """The folder for objects ("temp") or the package ("lib") that are made for this Python and this torch alone."""
    python = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}{sys.abiflags}"
    return os.path.join(base, f"{kind}.{python}-" + (f"torch-{TORCH[1]}-{CXX_STANDARD}" if TORCH else "no-torch"))


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
        if missing := self.missing("compiler_so_cxx"):
            print(
                f"meteors_c: there is no C++ compiler ({missing!r}), so the native torch bridge is left out and models "
                "run through Python calls.",
                file=sys.stderr,
            )
            self.extensions = [ext for ext in self.extensions if ext.language != "c++"]
        super().build_extensions()

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
            hint = "; METEORS_C_TORCH=off builds without the torch bridge" if ext.language == "c++" else ""
            raise CompileError(f"{ext.name} does not compile (the compiler says why, above){hint}.") from error
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
