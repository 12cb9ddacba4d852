"""What is wrong with a command line, as opposed to a run that failed."""

from __future__ import annotations

__all__ = ["UsageError"]


class UsageError(Exception):
    """The command line asks for something that can't be: exit status 2."""
