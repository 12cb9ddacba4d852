"""The command line: ``meteors-c``, or ``python -m meteors_c`` with one of its commands."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

COMMANDS = ("explain", "info", "methods")


def main(arguments: Sequence[str] | None = None, program: str = "meteors-c") -> int:
    """Run the command that the arguments name.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands behind the program's name; that of this process where None.
    program : str, default "meteors-c"
        The name in the help and in front of errors.

    Returns
    -------
    int
        The exit status: 0 where all went well, 1 for a run that failed, 2 for a command line that is wrong, 130 where
        it was interrupted.

    Examples
    --------
    >>> main(["--version"]) == 0  # doctest: +ELLIPSIS
    meteors-c ...
    True
    """
    from meteors_c.cli._app import run

    return run(arguments, program)
