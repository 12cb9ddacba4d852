"""Results as labelled arrays and as files of maps; the work is done in `meteors_c.io`."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["Maps"]


class Maps:
    """The part of a result that other programs read: labelled arrays, GeoTIFF and NetCDF."""

    def to_xarray(self) -> Any:
        """Label the attributions with wavelengths and, where the image has a georeference, coordinates and CRS.

        Returns
        -------
        xarray.Dataset
            ``attributions`` over ``("wavelength", "y", "x")``; for spatial results over ``("y", "x")``, for spectral
            ones over ``("wavelength",)``. Where there are such: ``standard_error`` and ``segments`` (ids of superpixels
            or superbands) over the same, and ``binary_mask``. Attributes: ``method``, ``target``, ``score``, ``report``
            (JSON). CRS and transform by ``.rio``. `meteors_c.io.to_xarray` takes several results, such as those of
            ``target="all"``.

        Raises
        ------
        ValueError
            The georeference is that of an image of another size.
        ImportError
            A package of the extra ``geo`` is missing.

        Examples
        --------
        >>> import torch
        >>> from meteors_c import HSI, attr
        >>> hsi = HSI(image=torch.rand(3, 4, 5), wavelengths=[450.0, 550.0, 650.0])
        >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 4, 5), attribution_method="Saliency")
        >>> result.to_xarray().attributions.sel(wavelength=550.0).shape
        (4, 5)
        """
        from meteors_c import io

        return io.to_xarray(self)  # type: ignore[arg-type]

    def to_geotiff(self, path: str | os.PathLike[str]) -> None:
        """Write the attributions as a GeoTIFF with the CRS and transform of the scene.

        One band for each band of the image, with its wavelength in the tags and the name; for spatial results a single
        one. Values are written as they are, in their dtype (half precision as float32); pixels of which no value is
        used are marked by the file's mask.

        Parameters
        ----------
        path : str or path-like
            One that is there is replaced in one step.

        Raises
        ------
        ValueError
            The georeference is that of an image of another size.
        ImportError
            A package of the extra ``geo`` is missing.

        Warns
        -----
        UserWarning
            The image has no CRS, and so has the file.

        Examples
        --------
        >>> place = io.Georeference.from_transform((2.0, 0.0, 5e5, 0.0, -2.0, 4e6), 48, 48, "EPSG:32633")
        >>> mapped = attr.Saliency(model).attribute(hsi.model_copy(update={"georeference": place}), target=0)
        >>> mapped.to_geotiff("map.tif")
        >>> io.open_scene("map.tif").rio.transform().to_gdal()
        (500000.0, 2.0, 0.0, 4000000.0, 0.0, -2.0)
        """
        from meteors_c import io

        io.to_geotiff(self, path)  # type: ignore[arg-type]

    def to_netcdf(self, path: str | os.PathLike[str]) -> None:
        """Write what `to_xarray` gives as a NetCDF file, with CF's description of the CRS.

        Parameters
        ----------
        path : str or path-like
            One that is there is replaced in one step.

        Raises
        ------
        ValueError
            The georeference is that of an image of another size.
        ImportError
            A package of the extra ``geo`` is missing.

        Examples
        --------
        >>> result.to_netcdf("map.nc")
        >>> io.open_scene("map.nc").shape
        (150, 48, 48)
        """
        from meteors_c import io

        io.to_netcdf(self, path)  # type: ignore[arg-type]
