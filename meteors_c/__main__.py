"""Runs a script or module that imports ``meteors`` on meteors_c: ``python -m meteors_c script.py ...``.

``explain``, ``info`` and ``methods`` are the commands of ``meteors-c`` here too. A script of such a name, without a
suffix, is named with its folder: ``python -m meteors_c ./explain``.

All else is as ``python script.py ...`` has it: ``sys.argv``, ``sys.path``, the module ``__main__``, the exit status and
the traceback. Programs that the script starts see METEORS_C set, so that workers use meteors_c too.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

import _meteors_c_startup

USAGE = """\
usage: python -m meteors_c [--fallback] script.py [argument ...]
       python -m meteors_c [--fallback] -m module [argument ...]
       python -m meteors_c explain|info|methods [argument ...]
       python -m meteors_c --version

Run a program that imports meteors on meteors_c, or a command of meteors-c, each of which has its own --help.

  --fallback  take what meteors_c lacks from an installed meteors
"""

COMMANDS = ("explain", "info", "methods", "--version", "--traceback")

Hook = Callable[[type[BaseException], BaseException, "TracebackType | None"], object]


def main(arguments: list[str]) -> None:
    """Run the program that the arguments name, in this process.

    Parameters
    ----------
    arguments : list of str
        The command line behind ``python -m meteors_c``.

    Raises
    ------
    SystemExit
        With the status of a command, 2 where the command line is wrong or the file can't be read, or as the program
        raises it.
    """
    fallback = arguments[:1] == ["--fallback"]
    arguments = arguments[fallback:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE, end="")
        return
    if not arguments or arguments == ["-m"]:
        sys.stderr.write(USAGE)
        raise SystemExit(2)
    if arguments[0] in COMMANDS and not fallback:
        command(arguments)
    if arguments[0].startswith("-") and arguments[0] != "-m":
        sys.stderr.write(f"meteors_c: there is no option {arguments[0]}\n{USAGE}")
        raise SystemExit(2)

    _meteors_c_startup.add(fallback)
    os.environ["METEORS_C"] = "fallback" if fallback else "1"
    program = ModuleType("__main__")
    vars(program)["__builtins__"] = builtins
    sys.modules["__main__"] = program
    try:
        if arguments[0] == "-m":
            sys.argv[:] = arguments[:1] + arguments[2:]
            runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]  # what `python -m` itself calls
        else:
            sys.argv[:] = arguments
            run_file(arguments[0], program)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook = functools.partial(show, sys.excepthook)
        raise


def command(arguments: list[str]) -> NoReturn:
    """Run a command of the package; a script of the same name is not run, and that is said."""
    if os.path.isfile(arguments[0]):
        sys.stderr.write(
            f"meteors_c: {arguments[0]} is a command here; the file of that name would be ./{arguments[0]}\n"
        )
    from meteors_c.cli import main as run_command

    raise SystemExit(run_command(arguments, "python -m meteors_c"))


def run_file(path: str, program: ModuleType) -> None:
    """Run a script, compiled file, folder or archive as the main module ``program``."""
    full = os.path.abspath(path)
    # With -P or -I the interpreter keeps the script's folder off the path.
    off_path = getattr(sys.flags, "safe_path", bool(sys.flags.isolated))
    if os.path.exists(path) and pkgutil.get_importer(full) is not None:
        sys.path[:] = [full, *sys.path[not off_path :]]
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
        return
    code, loader = read_code(full)
    if not off_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    names = {"__file__": full, "__cached__": None, "__loader__": loader, "__package__": None, "__spec__": None}
    vars(program).update(names)
    exec(code, vars(program))


def read_code(path: str) -> tuple[CodeType, Loader]:
    """Read a script, or a file that ``compileall`` has written, and name the loader that Python would use."""
    try:
        with io.open_code(path) as file:
            compiled = pkgutil.read_code(file)
        if compiled is not None:
            return compiled, SourcelessFileLoader("__main__", path)
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    return compile(source, path, "exec", dont_inherit=True), SourceFileLoader("__main__", path)


def show(hook: Hook, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Hand an exception to a hook without the frames that lead from the interpreter to the program."""
    trace = behind(runpy.__file__, "<frozen runpy>", trace=trace)
    trace = behind(__file__, trace=trace)
    hook(kind, error.with_traceback(trace), trace)


def behind(*files: str, trace: TracebackType | None) -> TracebackType | None:
    """Skip the frames of these files at the start of a traceback."""
    if trace is None or trace.tb_frame.f_code.co_filename not in files:
        return trace
    return behind(*files, trace=trace.tb_next)


if __name__ == "__main__":
    main(sys.argv[1:])
