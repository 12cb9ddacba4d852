"""The errors that meteors_c raises beyond the built-in ones.

Every class takes one message, which stays readable in ``.message``.

``ValidationError`` is what a constructor raises for arguments that contradict each other; the more specific errors
derive from it, so that ``except ValueError`` catches all of them. Some are ``RuntimeError`` too, which is what code
written for ``meteors`` expects of them.
"""

from __future__ import annotations

__all__ = [
    "BandSelectionError",
    "BroadcastError",
    "DeviceError",
    "HSIAttributesError",
    "MaskCreationError",
    "OrientationError",
    "ShapeMismatchError",
    "ValidationError",
]


class _MessageMixin(Exception):
    """Keep the one message of an exception in ``.message``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class MaskCreationError(_MessageMixin):
    """A segmentation or band mask can't be built from what was given.

    Parameters
    ----------
    message : str
        What was given and what is wanted.
    """


class BandSelectionError(_MessageMixin):
    """A band is unknown, or the image holds no wavelength inside it.

    Parameters
    ----------
    message : str
        The band, and the range that the image covers.
    """


class HSIAttributesError(_MessageMixin):
    """An attribution result lacks what a call needs, such as its mask.

    Parameters
    ----------
    message : str
        What is missing.
    """


class ValidationError(_MessageMixin, ValueError):
    """Arguments that are wrong, or that contradict each other.

    Parameters
    ----------
    message : str
        The argument, what came and what is wanted.
    """


class ShapeMismatchError(ValidationError):
    """Two shapes that must agree do not.

    Parameters
    ----------
    message : str
        Both shapes.
    """


class BroadcastError(ShapeMismatchError, RuntimeError):
    """A tensor that can't be broadcast to the shape it is used with.

    Torch itself raises ``RuntimeError`` here, so this class is one as well.

    Parameters
    ----------
    message : str
        Both shapes.
    """


class OrientationError(ValidationError, RuntimeError):
    """An orientation that is not a permutation of the letters C, H and W.

    Parameters
    ----------
    message : str
        What came instead.
    """


class DeviceError(ValidationError, RuntimeError):
    """A device that torch does not know or that this machine does not have.

    Parameters
    ----------
    message : str
        What came instead.
    """
