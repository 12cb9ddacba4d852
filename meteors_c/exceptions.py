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

    Examples
    --------
    >>> attr.Lime.get_segmentation_mask(hsi, "no such method")
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.MaskCreationError: ...
    """


class BandSelectionError(_MessageMixin):
    """A band is unknown, or the image holds no wavelength inside it.

    Parameters
    ----------
    message : str
        The band, and the range that the image covers.

    Examples
    --------
    >>> hsi.extract_band_by_name("X")
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.BandSelectionError: ...
    """


class HSIAttributesError(_MessageMixin):
    """An attribution result lacks what a call needs, such as its mask.

    Parameters
    ----------
    message : str
        What is missing.

    Examples
    --------
    >>> attr.HSIAttributesSpatial(hsi=hsi, attributes=torch.zeros_like(hsi.image)).segmentation_mask
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.HSIAttributesError: Segmentation mask is not provided in the attributes object
    """


class ValidationError(_MessageMixin, ValueError):
    """Arguments that are wrong, or that contradict each other.

    Parameters
    ----------
    message : str
        The argument, what came and what is wanted.

    Examples
    --------
    >>> HSI(image=torch.zeros(2, 4, 5), wavelengths=[450.0, -1.0])
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.ValidationError: ...
    """


class ShapeMismatchError(ValidationError):
    """Two shapes that must agree do not.

    Parameters
    ----------
    message : str
        Both shapes.

    Examples
    --------
    >>> HSI(image=torch.zeros(2, 4, 5), wavelengths=[450.0, 550.0, 650.0])
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.ShapeMismatchError: ...
    """


class BroadcastError(ShapeMismatchError, RuntimeError):
    """A tensor that can't be broadcast to the shape it is used with.

    Torch itself raises ``RuntimeError`` here, so this class is one as well.

    Parameters
    ----------
    message : str
        Both shapes.

    Examples
    --------
    >>> utils.expand_spectral_mask(hsi, torch.zeros(3, 1, 1), repeat_dimensions=True)
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.BroadcastError: ...
    """


class OrientationError(ValidationError, RuntimeError):
    """An orientation that is not a permutation of the letters C, H and W.

    Parameters
    ----------
    message : str
        What came instead.

    Examples
    --------
    >>> hsi.change_orientation("HWB")
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.OrientationError: ...
    """


class DeviceError(ValidationError, RuntimeError):
    """A device that torch does not know or that this machine does not have.

    Parameters
    ----------
    message : str
        What came instead.

    Examples
    --------
    >>> hsi.to("no such device")
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.DeviceError: ...
    """
