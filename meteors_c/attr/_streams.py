"""Which random numbers a call draws, where it is one of several calls that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["NUMBERS", "Streams", "drawing", "given", "numbers_of"]

NUMBERS = 2**24
"""Images that are told apart; the core numbers their draws below this."""


@dataclass
class Streams:
    """The draws of several calls.

    Attributes
    ----------
    seed : int or None
        The seed of all; the first call that draws one sets it where it is None.
    numbers : sequence of int
        The number of each image of the present call.
    """

    seed: int | None
    numbers: Sequence[int] = ()


_streams: ContextVar[Streams | None] = ContextVar("meteors_c_streams", default=None)


def given() -> Streams | None:
    """Return what is to be drawn in this context; None where a call stands by itself."""
    return _streams.get()


@contextmanager
def drawing(streams: Streams, numbers: Sequence[int]) -> Iterator[None]:
    """Have the calls in a ``with`` block, over images of these numbers, draw from these streams."""
    streams.numbers = numbers
    token = _streams.set(streams)
    try:
        yield
    finally:
        _streams.reset(token)


def numbers_of(images: int) -> list[int]:
    """Return the number of each image of a call, by which its draws are told apart."""
    streams = given()
    return list(range(images)) if streams is None else [number % NUMBERS for number in streams.numbers]
