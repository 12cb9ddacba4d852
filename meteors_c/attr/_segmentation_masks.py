"""Masks of superpixels: SLIC and square patches, and the check of masks against their image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from meteors_c._optional import import_optional
from meteors_c.attr._arguments import integer, positive
from meteors_c.attr._fields import ensure_torch_tensor
from meteors_c.exceptions import MaskCreationError, ShapeMismatchError
from meteors_c.hsi import HSI
from meteors_c.utils import warn_caller

__all__ = ["SegmentationMasks", "read_band_masks", "read_segmentation_masks", "validate_mask_shape"]

MaskType = Literal["segmentation", "band"]
_FREE_AXES = {"segmentation": "the band axis", "band": "the two spatial axes"}


# ---------------------------------------------------------------- masks that users hand in


def validate_mask_shape(mask_type: MaskType, hsi: HSI, mask: torch.Tensor) -> torch.Tensor:
    """Check that a mask lines up with an image, and expand it.

    Parameters
    ----------
    mask_type : "segmentation" or "band"
        A segmentation mask may have size 1 along the bands, a band mask along the two spatial axes.
    hsi : HSI
        The image, in any orientation.
    mask : torch.Tensor or numpy.ndarray
        Three axes in the image's order; a segmentation mask may have the two spatial ones alone.

    Returns
    -------
    torch.Tensor
        The mask with the image's shape, a view.

    Raises
    ------
    ShapeMismatchError
        Broadcasting would make the image larger.
    ValueError
        The mask can't be broadcast to the image, or has size 1 along another axis, or another number of axes; another
        `mask_type`.

    Examples
    --------
    >>> validate_mask_shape("segmentation", hsi, torch.zeros(hsi.image.shape[1:])).shape == hsi.image.shape
    True
    """
    if mask_type not in _FREE_AXES:
        raise ValueError(f"Unsupported mask type {mask_type!r}: it must be 'segmentation' or 'band'")
    mask = ensure_torch_tensor(mask, f"The {mask_type} mask")
    if mask_type == "segmentation" and mask.ndim == 2:
        mask = mask.unsqueeze(hsi.spectral_axis)
    _check_axes(mask_type, hsi, mask)
    return mask.expand(hsi.image.shape)


def _check_axes(mask_type: MaskType, hsi: HSI, mask: torch.Tensor) -> None:
    """Raise an error unless a mask has three axes that line up with those of the image."""
    shape, wanted = tuple(mask.shape), tuple(hsi.image.shape)
    if len(shape) != 3:
        raise ValueError(f"The {mask_type} mask must be a 3D tensor in the image's axes {wanted}, not of shape {shape}")
    try:
        together = np.broadcast_shapes(shape, wanted)
    except ValueError:
        raise ValueError(f"Cannot broadcast the {mask_type} mask of shape {shape} to the image of {wanted}") from None
    if together != wanted:
        raise ShapeMismatchError(f"The {mask_type} mask of shape {shape} does not fit into the image of shape {wanted}")
    bands = hsi.spectral_axis
    if any(shape[axis] != wanted[axis] for axis in range(3) if (axis == bands) == (mask_type == "band")):
        raise ValueError(
            f"Image and mask orientation mismatch: a {mask_type} mask may differ from its image in "
            f"{_FREE_AXES[mask_type]} only, but the image is {wanted}, {''.join(hsi.orientation)}, and the mask {shape}"
        )


def read_segmentation_masks(segmentation_mask: Any, images: Sequence[HSI]) -> list[torch.Tensor]:
    """Read the superpixels of the images of a call.

    Parameters
    ----------
    segmentation_mask : array, tensor, or list or tuple of them
        One for all images, which have the same orientation then, or a list of one for each. The two spatial axes in the
        image's order, or three axes.
    images : sequence of HSI
        The images.

    Returns
    -------
    list of torch.Tensor
        For each image its mask, in the user's dtype: three axes, of size 1 along the bands where it was given so.

    Raises
    ------
    TypeError
        Neither arrays nor tensors.
    ValueError
        Another number of masks than images, one for images of several orientations, and as `validate_mask_shape`.
    """
    many = isinstance(segmentation_mask, list | tuple)
    orientations = {"".join(image.orientation) for image in images}
    if not many and len(orientations) > 1:
        raise ValueError(
            f"one segmentation_mask serves images of one orientation, not of {', '.join(sorted(orientations))}: give a "
            "list with a mask for each, or turn the images by change_orientation()"
        )
    masks = segmentation_mask if many else [segmentation_mask] * len(images)
    return _read_masks("segmentation", masks, images)


def read_band_masks(band_mask: Any, images: Sequence[HSI]) -> list[torch.Tensor]:
    """Read the superbands of the images of a call.

    Parameters
    ----------
    band_mask : array, tensor, or list or tuple of them
        One for all images, by itself or in a list, or a list of one for each. One axis, that of the bands, or three.
    images : sequence of HSI
        The images.

    Returns
    -------
    list of torch.Tensor
        For each image its mask, in the user's dtype: three axes, of size 1 along the spatial ones where it was given
        so.

    Raises
    ------
    TypeError
        Neither arrays nor tensors.
    ValueError
        Another number of masks than images, and as `validate_mask_shape`.
    """
    masks = band_mask if isinstance(band_mask, list | tuple) else [band_mask]
    return _read_masks("band", masks * len(images) if len(masks) == 1 else masks, images)


def _read_masks(mask_type: MaskType, masks: Sequence[Any], images: Sequence[HSI]) -> list[torch.Tensor]:
    """Read one mask for each image."""
    if len(masks) != len(images):
        raise ValueError(f"{mask_type}_mask must have one mask for each of {len(images)} images, not {len(masks)}")
    tensors = [ensure_torch_tensor(mask, f"{mask_type}_mask number {i}") for i, mask in enumerate(masks, start=1)]
    return [_with_all_axes(mask_type, hsi, mask) for hsi, mask in zip(images, tensors, strict=True)]


def _with_all_axes(mask_type: MaskType, hsi: HSI, mask: torch.Tensor) -> torch.Tensor:
    """Return a mask with the axes that it lacks, of size 1, if it lines up with the image then."""
    bands = hsi.spectral_axis
    if mask_type == "segmentation" and mask.ndim == 2:
        mask = mask.unsqueeze(bands)
    elif mask_type == "band" and mask.ndim == 1:
        mask = mask.reshape([-1 if axis == bands else 1 for axis in range(3)])
    _check_axes(mask_type, hsi, mask)
    return mask


# ---------------------------------------------------------------- masks that are made


def _get_slic_segmentation_mask(hsi: HSI, num_interpret_features: int = 10, **params: Any) -> torch.Tensor:
    """Return the superpixels that scikit-image's SLIC finds; see `SegmentationMasks.get_segmentation_mask`."""
    segments = positive(num_interpret_features, "num_interpret_features")
    inside = _pixels_inside(hsi)
    slic = import_optional("skimage.segmentation", "scikit-image", "masks", "SLIC superpixels").slic
    labels = slic(
        _scaled_image(hsi),
        n_segments=min(segments, int(inside.sum())),
        mask=inside,
        channel_axis=hsi.spectral_axis,
        **params,
    )
    ids = np.where(inside, labels.astype(np.int64) - int(labels[inside].min()) + 1, 0)
    if params.get("enforce_connectivity", True):
        ids = _one_id_for_each_region(ids)
    return _as_mask(ids, hsi)


def _one_id_for_each_region(ids: np.ndarray) -> np.ndarray:
    """Give every 4-connected region an id of its own, in the order of the ids, then of the rows; 0 stays."""
    label = import_optional("skimage.measure", "scikit-image", "masks", "SLIC superpixels").label
    regions = label(ids, background=0, connectivity=1)
    pixels = regions != 0
    _, first = np.unique(regions[pixels], return_index=True)
    number = np.empty(len(first) + 1, dtype=np.int64)
    number[0] = 0
    number[1 + np.argsort(ids[pixels][first], kind="stable")] = np.arange(1, len(first) + 1)
    return number[regions]


def _get_patch_segmentation_mask(hsi: HSI, patch_size: int = 10, **params: Any) -> torch.Tensor:
    """Return square patches; see `SegmentationMasks.get_segmentation_mask`."""
    if params:
        warn_caller(f"Patches have no parameters but patch_size; ignored: {', '.join(params)}")
    size = integer(patch_size, "patch_size", "a positive integer", 1)
    rows, columns = (hsi.image.shape[hsi.orientation.index(letter)] for letter in "HW")
    if rows % size or columns % size:
        raise ValueError(f"patch_size must divide both sides of the image, {rows} x {columns} pixels, not {size}")
    inside = _pixels_inside(hsi)
    ids = 1 + np.arange(rows)[:, None] // size * (columns // size) + np.arange(columns) // size
    if hsi.orientation.index("W") < hsi.orientation.index("H"):
        ids = ids.T
    return _as_mask(np.where(inside, ids, 0), hsi)


def _pixels_inside(hsi: HSI) -> np.ndarray:
    """Return which pixels the mask of an image leaves, in its axes without that of the bands."""
    inside = hsi.spatial_binary_mask.cpu().numpy()
    if not inside.any():
        raise ValueError("the binary mask of the image is empty: no pixel is left for a segment")
    return inside


def _scaled_image(hsi: HSI) -> np.ndarray:
    """Return the image with the values that its mask leaves scaled to [0, 1], and 0 elsewhere."""
    used = (hsi.binary_mask & hsi.spatial_binary_mask.unsqueeze(hsi.spectral_axis)).cpu()
    image = hsi.get_image().detach().cpu()
    image = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
    image = image if image.is_floating_point() else image.double()
    values = image[used]
    if not values.isfinite().all():
        wrong = used & ~image.isfinite()
        raise ValueError(
            f"the image must be finite where its mask leaves it, but {int(wrong.sum())} values are not, the first at "
            f"{dict(zip(hsi.orientation, wrong.nonzero()[0].tolist(), strict=True))}"
        )
    low, high = torch.aminmax(values)
    if low == high:
        return torch.zeros_like(image).numpy()
    scale = 1.0 if (high - low).isfinite() else 0.5  # the range of a dtype is wider than its largest value
    return torch.where(used, (image * scale - low * scale) / (high * scale - low * scale), 0).numpy()


def _as_mask(ids: np.ndarray, hsi: HSI) -> torch.Tensor:
    """Number the ids from 0 on without gaps, and add the axis of the bands."""
    numbered = np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.int64)
    return torch.from_numpy(numbered).unsqueeze(hsi.spectral_axis).to(hsi.device)


class SegmentationMasks:
    """The part of `Lime` that makes masks of superpixels."""

    _get_slic_segmentation_mask = staticmethod(_get_slic_segmentation_mask)
    _get_patch_segmentation_mask = staticmethod(_get_patch_segmentation_mask)

    @staticmethod
    def get_segmentation_mask(
        hsi: HSI, segmentation_method: Literal["slic", "patch"] = "slic", **segmentation_method_params: Any
    ) -> torch.Tensor:
        """Make a mask of superpixels, groups of pixels that are switched on and off together.

        Parameters
        ----------
        hsi : HSI
            The image, in any orientation.
        segmentation_method : "slic" or "patch", default "slic"
            Clusters of pixels that are alike and near each other [1]_, by scikit-image's ``slic``, or squares.
        **segmentation_method_params
            For ``"slic"``: ``num_interpret_features``, about how many superpixels are wanted (default 10), and what
            scikit-image's ``slic`` takes beside the image, the number of segments, the mask and the channel axis. For
            ``"patch"``: ``patch_size`` (default 10), which divides both sides of the image.

        Returns
        -------
        torch.Tensor of int64
            The id of each pixel, 0, 1, ... without gaps, in the image's axes, that of the bands with size 1. Where the
            image's mask hides pixels, they are segment 0. Patches are numbered row by row.

        Raises
        ------
        TypeError
            `hsi` is no HSI.
        MaskCreationError
            Everything else; the cause says what: no pixel inside the image's mask, values that are not finite, a patch
            size that does not divide both sides, another method, scikit-image missing.

        Notes
        -----
        SLIC gets the masked image with its values scaled to [0, 1] by the least and the largest of those that the mask
        leaves, so that units and what lies under the mask do not matter. There may be fewer superpixels than wanted, at
        most one for each pixel, or a few more: a cluster whose pixels do not hang together, over an edge, is split into
        several, unless ``enforce_connectivity=False`` is given.

        References
        ----------
        .. [1] R. Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI 34,
           2012; with a mask: B. Irving, "maskSLIC", 2016, arXiv:1606.09518.

        Examples
        --------
        >>> Lime.get_segmentation_mask(hsi, num_interpret_features=20, compactness=0.1).shape
        torch.Size([1, 48, 48])
        >>> Lime.get_segmentation_mask(hsi, "patch", patch_size=8).unique().numel()
        36
        """
        if not isinstance(hsi, HSI):
            raise TypeError(f"hsi must be an HSI, not {type(hsi).__name__}")
        makers = {"slic": _get_slic_segmentation_mask, "patch": _get_patch_segmentation_mask}
        try:
            if segmentation_method not in makers:
                raise ValueError(f"Unsupported segmentation method: it must be {' or '.join(makers)}")
            return makers[segmentation_method](hsi, **segmentation_method_params)
        except Exception as error:
            raise MaskCreationError(
                f"Error creating segmentation mask using method {segmentation_method}: {error}"
            ) from error
