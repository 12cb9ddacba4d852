"""Progress of a run: a bar in terminals and notebooks, or a callback."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress"]


@contextmanager
def progress(
    show: bool | Callable[[int, int], Any], name: str, unit: str = "evaluation"
) -> Iterator[Callable[[int, int], Any] | None]:
    """Yield what the core calls with the evaluations done and to do, or None.

    The first call comes before the first evaluation, so a bar has its total as soon as it is seen. Where a run may stop
    early, what there is to do is at first the most that it may take, and at last what it took.

    Parameters
    ----------
    show : bool or callable
        True shows a tqdm bar; a callable is called as ``show(done, total)``.
    name : str
        The bar's label.
    unit : str, default "evaluation"
        What is counted.
    """
    if callable(show):
        yield show
        return
    if not isinstance(show, bool):
        raise TypeError(f"show_progress, or verbose, must be True, False or a callable (done, total), not {show!r}")
    if not show:
        yield None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns where a notebook has no widgets; its text bar serves
        from tqdm.auto import tqdm
    bar: Any = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=name, unit=unit, total=total)
        elif bar.total != total:
            bar.total = total
            bar.refresh()
        bar.update(done - bar.n)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()
