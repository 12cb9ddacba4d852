"""Settings of the engine for a block of code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from meteors_c._memory import available_memory

__all__ = ["Options", "current", "options"]

_UNSET = object()
_FINITE_POLICIES = ("warn", "raise", "ignore")
_THREADS = ("measured", "all")


@dataclass(frozen=True)
class Options:
    """What the engine may do; see `options`."""

    shortcuts: bool | str = True
    native: bool = True
    memory_limit: int | None = None
    finite: str = "warn"
    tune_allocator: bool = True
    threads: str = "measured"
    batch: int | None = None


_DEFAULT = Options()
_current: ContextVar[Options] = ContextVar("meteors_c_options", default=_DEFAULT)


def current() -> Options:
    """Return the settings in force."""
    return _current.get()


@contextmanager
def options(
    *,
    shortcuts: bool | str | object = _UNSET,
    native: bool | object = _UNSET,
    memory_limit: int | object | None = _UNSET,
    finite: str | object = _UNSET,
    tune_allocator: bool | object = _UNSET,
    threads: str | object = _UNSET,
    batch: int | object | None = _UNSET,
) -> Iterator[Options]:
    """Change settings of the engine inside a ``with`` block, for this thread or task.

    Parameters
    ----------
    shortcuts : bool, "always" or "replay", default True
        Whether the engine may evaluate samples without rendering them, where that is verified to give the same
        numbers and the work is large enough to pay for it. Where one call is not, but several like it are, the second
        one on an `ExplainableModel` prepares what those after it use: keep one for each model. ``False`` forces the
        plain path, with torch's own kernels alone; ``"always"`` prepares a shortcut for small work too, whatever it
        costs; ``"replay"`` evaluates whole samples by the model's recorded program, in which batch norms are folded
        into convolutions and channels lie together wherever that is faster (sums round up to 3.5 times more then),
        without Python and without reuse.
    native : bool, default True
        Whether torch models are called through torch's C++ interface. ``False`` calls them from Python, without
        shortcuts.
    memory_limit : int, optional
        Bytes that one chunk of samples, with what the model makes of it, and the caches of a shortcut may take;
        half of the memory that is available when a method is called if None.
    finite : {"warn", "raise", "ignore"}, default "warn"
        What becomes of values that are NaN or infinite. In an image (where its mask is True) or a baseline they are
        an error that says where; in outputs, gradients and attributions they are counted in the report, kept in the
        result, and one warning says where the first was. ``"raise"`` makes the latter a `FloatingPointError`;
        ``"ignore"`` looks at no image and gives no warning.
    tune_allocator : bool, default True
        Whether the C library's allocator keeps freed memory with the process while a method runs, and returns it
        afterwards (glibc's ``mallopt`` and ``malloc_trim``, which concern the whole process). ``False`` leaves it as
        it is: calls on large images take up to a third longer.
    threads : {"measured", "all"}, default "measured"
        How many of torch's threads a run uses, ``torch.get_num_threads()`` at most. ``"measured"`` begins with as many
        as there are idle cores and goes on with fewer where these are faster, as they are beside other busy processes
        or in a container that may use a part of its cores: threads that wait for each other can take many times as
        long as one. Torch's own setting is not touched. Some of torch's operators round otherwise on another number
        of threads, so the last bits can then depend on what else runs, and differences of outputs that nearly cancel
        show it. ``"all"`` always takes all, for results that repeat bit for bit.
    batch : int, optional
        The most samples that the model may see at once, whatever the method: 1 for programs that were exported for a
        single image. Where a call names a smaller number, that holds; the engine chooses if None.

    Yields
    ------
    Options
        The settings in force.

    Raises
    ------
    TypeError, ValueError
        For a value of another type, or out of range.

    Examples
    --------
    >>> with meteors_c.options(shortcuts=False, finite="raise"):
    ...     attributes = attr.Saliency(model).attribute(hsi, target=0)
    """
    given = {
        "shortcuts": shortcuts,
        "native": native,
        "memory_limit": memory_limit,
        "finite": finite,
        "tune_allocator": tune_allocator,
        "threads": threads,
        "batch": batch,
    }
    changes = {name: value for name, value in given.items() if value is not _UNSET}
    if changes.get("finite", "warn") not in _FINITE_POLICIES:
        raise ValueError(f"finite must be one of {', '.join(_FINITE_POLICIES)}, not {finite!r}")
    if changes.get("threads", "all") not in _THREADS:
        raise ValueError(f"threads must be one of {', '.join(_THREADS)}, not {threads!r}")
    if not isinstance(changes.get("shortcuts", True), bool) and changes["shortcuts"] not in ("always", "replay"):
        raise TypeError(f"shortcuts must be True, False, 'always' or 'replay', not {changes['shortcuts']!r}")
    for name in ("native", "tune_allocator"):
        if name in changes and not isinstance(changes[name], bool):
            raise TypeError(f"{name} must be True or False, not {changes[name]!r}")
    for name, of in (("memory_limit", "bytes"), ("batch", "samples")):
        limit = changes.get(name)
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
            raise TypeError(f"{name} must be a number of {of} or None, not {limit!r}")
        if isinstance(limit, int) and limit < 1:
            raise ValueError(f"{name} must be a positive number of {of}, not {limit}")
    token = _current.set(replace(_current.get(), **changes))  # type: ignore[arg-type]
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def memory_budget() -> int:
    """Return the bytes that one chunk may take: the limit set by `options`, or half of what is available."""
    limit = current().memory_limit
    return limit if limit is not None else max(available_memory() // 2, 1)
