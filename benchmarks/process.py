"""A Python process that answers each line with a line of JSON, and what the code inside it needs for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """``python -m module arguments``, which is asked line by line and ends with its `with` block."""

    def __init__(self, module: str, *arguments: str, python: str = sys.executable) -> None:
        self._name = ", ".join((module.rpartition(".")[2], *arguments))
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self._name} ended with status {self._process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found


def answers() -> TextIO:
    """Where a process writes its answers: what libraries print, and their warnings, are none."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    return stream


def failure(error: Exception) -> dict[str, Any]:
    """What stands in a row in place of figures."""
    return {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"}


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer questions, a line of JSON each, until there are none; one that fails is answered by what failed."""
    stream = answers()
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:
            found = failure(error)
        print(json.dumps(found), file=stream, flush=True)


def ask_once(module: str, *arguments: str, **question: Any) -> dict[str, Any]:
    """The answer of a process to one question; what failed if it failed."""
    try:
        with Process(module, *arguments) as process:
            found: dict[str, Any] = process.ask(json.dumps(question))
    except RuntimeError as error:
        return {"failed": str(error)}
    return found
