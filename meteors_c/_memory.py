"""The memory that this process may still take: what the machine has to give, and what its container leaves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

__all__ = ["available_memory"]

_GROUPS_OF_PROCESS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
# By the version of control groups: the files of the limit and of what is used, and what of the latter are file pages
# that the kernel drops when memory is short.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def available_memory() -> int:
    """Return the bytes of memory that this process can still take without the machine or its container running short.

    Returns
    -------
    int
        What psutil calls available, or what the limit of a control group around the process leaves where that is less.
    """
    import psutil

    left = [_left(folder, version) for folder, version in _groups()]
    return min([int(psutil.virtual_memory().available), *(size for size in left if size is not None)])


@cache
def _groups() -> tuple[tuple[Path, int], ...]:
    """Return the folders of the control groups of memory that this process is in, and the version of each."""
    return tuple(_find_groups())


def _find_groups() -> Iterator[tuple[Path, int]]:
    try:
        lines = _GROUPS_OF_PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version, roots = (1, ("memory",)) if controllers else (2, ("", "unified"))
        inside = PurePosixPath(path.lstrip("/"))
        for root in roots:
            for group in (inside, *inside.parents):  # a limit further up holds too; in a container all may be missing
                folder = _GROUPS / root / group
                if (folder / _FILES[version][0]).is_file():
                    yield folder, version


def _left(folder: Path, version: int) -> int | None:
    """Return the bytes that a control group leaves; None where it sets no limit."""
    limit, used, reclaimable = _FILES[version]
    try:
        wanted = (folder / limit).read_text(encoding="ascii").strip()
        if not wanted.isdigit():  # "max"
            return None
        taken = int((folder / used).read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return max(int(wanted) - taken + int(statistics.get(reclaimable, 0)), 0)
    except (OSError, ValueError):  # the group has gone, or its files are of another form
        return None
