"""Where an image lies: its coordinate reference system, and the places of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Georeference", "fitting_transform", "georeference_of", "read_map_info"]

Transform = tuple[float, float, float, float, float, float]

# Names that files give to the two spatial dimensions.
ROWS = frozenset("y lat latitude northing row rows line lines height downtrack along_track".split())
COLUMNS = frozenset(
    "x lon longitude easting col cols column columns sample samples width crosstrack across_track pixel".split()
)


@dataclass(frozen=True, eq=False)
class Georeference:
    """Where an image lies.

    Attributes
    ----------
    crs : str or None
        The coordinate reference system as WKT.
    transform : tuple of float or None
        Six numbers ``(a, b, c, d, e, f)``: the upper left corner of the pixel at ``(row, column)`` lies at
        ``x = a * column + b * row + c``, ``y = d * column + e * row + f``, as in ``affine.Affine`` and rasterio.
    x, y : numpy.ndarray or None
        Coordinates of the centres of columns and rows; None where the rows run askew to the axes, or nothing is known.
    shape : tuple of int or None
        Rows and columns that this is about, where known.

    Examples
    --------
    >>> place = Georeference.from_transform((30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0), 2, 3)
    >>> place.x
    array([500015., 500045., 500075.])
    """

    crs: str | None = None
    transform: Transform | None = None
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    shape: tuple[int, int] | None = None

    @classmethod
    def from_transform(
        cls, transform: tuple[float, ...] | None, height: int, width: int, crs: str | None = None
    ) -> Georeference:
        """Make one of a transform, and the centres of its pixels where rows and columns run along the axes.

        Parameters
        ----------
        transform : tuple of float or None
            Six numbers; further ones, as those of an ``affine.Affine``, are left out.
        height, width : int
            Rows and columns of the image.
        crs : str, optional
            WKT.

        Returns
        -------
        Georeference

        Raises
        ------
        ValueError
            More or fewer numbers.

        Examples
        --------
        >>> Georeference.from_transform((30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0), 2, 3).y
        array([3999985., 3999955.])
        """
        if transform is None:
            return cls(crs, None, None, None, (height, width))
        if len(tuple(transform)) not in (6, 9):
            raise ValueError(f"transform must be six numbers (a, b, c, d, e, f) or an affine.Affine, not {transform}")
        a, b, c, d, e, f = six = tuple(map(float, tuple(transform)[:6]))
        if b != 0 or d != 0:
            return cls(crs, six, None, None, (height, width))  # type: ignore[arg-type]
        x, y = c + a * (np.arange(width) + 0.5), f + e * (np.arange(height) + 0.5)
        return cls(crs, six, x, y, (height, width))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values: numbers, strings, lists and None.

        Examples
        --------
        >>> Georeference.from_transform((30.0, 0.0, 5e5, 0.0, -30.0, 4e6), 2, 3).to_dict()["shape"]
        [2, 3]
        """
        return {
            "crs": self.crs,
            "transform": None if self.transform is None else list(self.transform),
            "x": None if self.x is None else [float(value) for value in self.x],
            "y": None if self.y is None else [float(value) for value in self.y],
            "shape": None if self.shape is None else list(self.shape),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Georeference:
        """Make one of what `to_dict` gave.

        Examples
        --------
        >>> place = Georeference.from_transform((30.0, 0.0, 5e5, 0.0, -30.0, 4e6), 2, 3)
        >>> Georeference.from_dict(place.to_dict()) == place
        True
        """
        return cls(
            fields.get("crs"),
            None if fields.get("transform") is None else tuple(fields["transform"]),
            None if fields.get("x") is None else np.array(fields["x"], dtype=np.float64),
            None if fields.get("y") is None else np.array(fields["y"], dtype=np.float64),
            None if fields.get("shape") is None else tuple(fields["shape"]),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Georeference) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.crs, self.transform, self.shape))

    def __repr__(self) -> str:
        crs = None if self.crs is None else f"{self.crs[:40]}..." if len(self.crs) > 43 else self.crs
        return f"Georeference(crs={crs!r}, transform={self.transform}, shape={self.shape})"


def georeference_of(da: Any, rows: str, columns: str) -> Georeference | None:
    """Read the georeference of a DataArray, by rioxarray where it is installed.

    Parameters
    ----------
    da : xarray.DataArray
        What was opened by `open_scene` or rioxarray, or any other.
    rows, columns : str
        Its spatial dimensions.

    Returns
    -------
    Georeference or None
        None where the array has neither coordinates nor a CRS.

    Examples
    --------
    >>> import xarray
    >>> axes = {"y": [3.5, 2.5], "x": [10.0, 12.0, 14.0]}
    >>> place = georeference_of(xarray.DataArray(np.zeros((2, 3)), coords=axes), "y", "x")
    >>> place.transform
    (2.0, 0.0, 9.0, 0.0, -1.0, 4.0)
    """
    height, width = int(da.sizes[rows]), int(da.sizes[columns])
    y, x = _centres(da, rows), _centres(da, columns)
    try:
        import rioxarray  # noqa: F401 - registers .rio
    except ImportError:
        crs = transform = written = None
    else:
        spatial = da.rio.set_spatial_dims(x_dim=columns, y_dim=rows)
        crs = spatial.rio.crs
        written = _written_transform(spatial)
        transform = transform_of_part(da, written, rows, columns)
    pixels = crs is None and written in (None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    if pixels and (x is None or y is None or (_counted(x) and _counted(y))):
        return None
    wkt = None if crs is None else crs.to_wkt()
    place = Georeference.from_transform(transform, height, width, wkt)
    if x is not None and y is not None and (transform is None or place.x is not None):
        # The coordinates as they stand, whose last digits may differ from those of the transform.
        place = Georeference(wkt, place.transform, x, y, (height, width))
    return place


def read_map_info(info: Any) -> tuple[Transform | None, str | None]:
    """Read ENVI's ``map info``: projection, pixel of the tie point (from 1), its coordinates, sizes of a pixel.

    Parameters
    ----------
    info : str or list of str
        As headers and files write it.

    Returns
    -------
    transform : tuple of float or None
        Six numbers as in `Georeference`; None where there are none to be read, or the rows run askew.
    crs : str or None
        The EPSG code where the projection is UTM or degrees on WGS-84.

    Examples
    --------
    >>> read_map_info("UTM, 1, 1, 500000, 4000000, 30, 30, 33, North, WGS-84, units=Meters")
    ((30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0), 'EPSG:32633')
    """
    parts = [
        str(part).strip() for part in (info if isinstance(info, list | tuple) else str(info).strip("{} ").split(","))
    ]
    try:
        column, row, east, north, width, height = map(float, parts[1:7])
    except ValueError:
        return None, None
    crs = _crs_in_words([part.lower() for part in parts])
    if any("rotation" in part.lower() and float(part.split("=")[1]) != 0 for part in parts if "=" in part):
        return None, crs
    return (width, 0.0, east - (column - 1) * width, 0.0, -height, north + (row - 1) * height), crs


def _crs_in_words(parts: list[str]) -> str | None:
    if not any(part.replace(" ", "").replace("-", "") in ("wgs84", "wgs1984") for part in parts[7:]):
        return None
    if parts[0].startswith("geographic"):
        return "EPSG:4326"
    zone = next((int(part) for part in parts[7:] if part.isdigit()), 0)
    hemisphere = next((part for part in parts[7:] if part in ("north", "south")), None)
    if parts[0] != "utm" or hemisphere is None or not 1 <= zone <= 60:
        return None
    return f"EPSG:{(32600 if hemisphere == 'north' else 32700) + zone}"


def _centres(da: Any, name: str, dimension: str | None = None) -> np.ndarray | None:
    dimension = name if dimension is None else dimension
    if name not in da.coords:  # get() would make numbers up for a dimension without coordinates
        return None
    coordinate = da.coords[name]
    if coordinate.dims != (dimension,) or coordinate.dtype.kind not in "iuf":
        return None
    return np.asarray(coordinate.values, dtype=np.float64)


def _written_transform(da: Any) -> Transform | None:
    """Return the transform that an array has written down."""
    name = da.rio.grid_mapping
    written = name in da.coords and "GeoTransform" in da.coords[name].attrs
    return tuple(da.rio.transform())[:6] if written else None


def pixel_numbers(height: int, width: int, rows: str, columns: str) -> dict[str, tuple[str, np.ndarray]]:
    """Return coordinates that number rows and columns, for grids that are askew.

    The centres of their pixels depend on both, so that parts of an array would not know their place otherwise.

    Examples
    --------
    >>> pixel_numbers(2, 3, "y", "x")["column"]
    ('x', array([0, 1, 2]))
    """
    return {"row": (rows, np.arange(height)), "column": (columns, np.arange(width))}


def transform_of_part(da: Any, written: Transform | None, rows: str, columns: str) -> Transform | None:
    """Return the transform of an array, which may be a part of one whose transform it has written down.

    Parameters
    ----------
    da : xarray.DataArray
        With the centres of its columns and rows as coordinates or, where the grid is askew, with their numbers in the
        whole (``row``, ``column``) or the centres of all pixels (``yc``, ``xc``, as rioxarray has them).
    written : tuple of float or None
        Six numbers as in `Georeference`.
    rows, columns : str
        The spatial dimensions.

    Returns
    -------
    tuple of float or None
        None where there is none, or rows or columns are left out unevenly.
    """
    y, x = _centres(da, rows), _centres(da, columns)
    transform = written if x is None or y is None else fitting_transform(written, x, y)
    return (
        transform if transform is None or not (transform[1] or transform[3]) else _askew(da, transform, rows, columns)
    )


def _askew(da: Any, transform: Transform, rows: str, columns: str) -> Transform | None:
    numbers = [_centres(da, *pair) for pair in (("column", columns), ("row", rows))]
    if any(one is None for one in numbers):
        numbers = _numbers_of_centres(da, transform, rows, columns)
    (left, across), (top, down) = (_first_and_step(one) for one in numbers)
    if across == 0 or down == 0:
        return None
    a, b, c, d, e, f = transform
    # Pixel n of the whole lies about n + 1/2; one of the part is as wide as its step.
    left, top = left + 0.5 - across / 2, top + 0.5 - down / 2
    return a * across, b * down, c + a * left + b * top, d * across, e * down, f + d * left + e * top


def _numbers_of_centres(da: Any, transform: Transform, rows: str, columns: str) -> list[np.ndarray | None]:
    """Return which columns and rows of the whole the pixels are of, by their centres; None for each where not told."""
    if not all(name in da.coords and da.coords[name].dims == (rows, columns) for name in ("xc", "yc")):
        return [None, None]
    a, b, c, d, e, f = transform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
    xc, yc = (np.asarray(da.coords[name].values, dtype=np.float64) for name in ("xc", "yc"))
    first_row = inverse @ np.array([xc[0] - c, yc[0] - f]) - 0.5
    first_column = inverse @ np.array([xc[:, 0] - c, yc[:, 0] - f]) - 0.5
    return [np.round(first_row[0], 6), np.round(first_column[1], 6)]


def _first_and_step(numbers: np.ndarray | None) -> tuple[float, float]:
    """Return where numbers begin and how they go on; a step of 0 where they do so unevenly."""
    if numbers is None:
        return 0.0, 1.0
    if len(numbers) < 2:
        return float(numbers[0]), 1.0
    steps = np.diff(numbers)
    return float(numbers[0]), float(steps[0]) if np.allclose(steps, steps[0]) else 0.0


def fitting_transform(transform: Transform | None, x: np.ndarray, y: np.ndarray) -> Transform | None:
    """Return a transform if it agrees with the centres of pixels, or is askew; else that of evenly spaced centres.

    Parameters
    ----------
    transform : tuple of float or None
        Six numbers, as in `Georeference`.
    x, y : numpy.ndarray
        The centres of columns and rows.

    Returns
    -------
    tuple of float or None
        None where the transform does not fit and the centres are not evenly spaced.

    Examples
    --------
    >>> fitting_transform((2.0, 0.0, 0.0, 0.0, -2.0, 8.0), np.array([5.0, 7.0]), np.array([3.0, 1.0]))
    (2.0, 0.0, 4.0, 0.0, -2.0, 4.0)
    """
    if transform is not None and (transform[1] != 0 or transform[3] != 0 or _fits(transform, x, y)):
        return transform
    if not (_even(x) and _even(y)):
        return None
    across, down = (float(centres[-1] - centres[0]) / (len(centres) - 1) for centres in (x, y))
    return across, 0.0, float(x[0]) - across / 2, 0.0, down, float(y[0]) - down / 2


def _counted(values: np.ndarray) -> bool:
    """Tell whether coordinates only count the pixels, from 0 or from the centre of the first."""
    return bool(np.array_equal(values - values[0], np.arange(len(values))) and values[0] in (0.0, 0.5))


def _even(values: np.ndarray) -> bool:
    if len(values) < 2:
        return False
    steps = np.diff(values)
    return bool(steps[0] != 0 and np.allclose(steps, steps[0], rtol=1e-3, atol=0))


def _fits(transform: tuple[float, ...], x: np.ndarray, y: np.ndarray) -> bool:
    """Tell whether the first and last pixels lie where their coordinates say, within a hundredth of a pixel."""
    a, b, c, d, e, f = transform
    if b != 0 or d != 0 or a == 0 or e == 0:
        return False
    columns, rows = np.array([0, len(x) - 1]) + 0.5, np.array([0, len(y) - 1]) + 0.5
    return bool(
        np.all(np.abs(c + a * columns - x[[0, -1]]) < abs(a) / 100)
        and np.all(np.abs(f + e * rows - y[[0, -1]]) < abs(e) / 100)
    )
