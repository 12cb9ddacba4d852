"""
An ENVI file in, a GeoTIFF map out
==================================

A scene from a file with its coordinates, a network, and a map of attributions that lies on the scene in any GIS.

On the command line, the same is ``meteors-c explain field.hdr --model MODEL --method ig --target 0 --out map.tif``.
"""

# %%
# A file
# ------
# Yours is there already. For this page, the demo field is written as an ENVI file: binary values, and a header with
# wavelengths and a map projection (UTM zone 33 north, pixels of 2 m).

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import rasterio
import torch
from rasterio.transform import from_origin

from meteors_c import HSI, attr, datasets, io, models

folder = Path(tempfile.mkdtemp())
field = datasets.load_demo_field()
values = torch.where(field.binary_mask, field.image, -9999.0).numpy()  # no data outside of the field
with rasterio.open(
    folder / "field.dat", "w", driver="ENVI", dtype="float32", count=150, height=96, width=96, nodata=-9999.0,
    crs="EPSG:32633", transform=from_origin(500_000.0, 5_540_000.0, 2.0, 2.0),
) as file:  # fmt: skip
    file.write(values)
header = folder / "field.hdr"
with header.open("a") as text:
    text.write(f"wavelength = {{{', '.join(f'{value:.2f}' for value in field.wavelengths.tolist())}}}\n")
    text.write("wavelength units = Nanometers\n")

# %%
# Read
# ----
# `io.open_scene` reads whatever GDAL reads, lazily. Wavelengths come in nanometres whatever the file says them in,
# bands that the file calls bad are left out, no-data becomes the mask of the image.

scene = io.open_scene(folder / "field.dat")
print(scene)
hsi = HSI.from_xarray(scene)
print(hsi)

# %%
# Explain
# -------
# What in the field makes the network say how much phosphorus the soil holds? Integrated gradients share the difference
# from the output for the mean spectrum among all values of the image.

model = models.ExplainableModel(datasets.load_demo_model(), "regression")
result = attr.IntegratedGradients(model).attribute(hsi, baseline="mean", target=0, n_steps=50)
print(result.report)

# %%
# Write
# -----
# The map has the coordinates of the scene, and says in its tags how it was made.

result.to_geotiff(folder / "phosphorus.tif")
with rasterio.open(folder / "phosphorus.tif") as written:
    print(written.crs, written.shape, written.count, "bands")
    bounds, attributions = written.bounds, written.read(masked=True)  # nothing outside of the field

# %%
# The sum over the bands is what each pixel contributes, in mg of phosphorus per kg of soil.

pixels = attributions.sum(axis=0)
largest = abs(pixels).max()
figure, axis = plt.subplots(figsize=(6.4, 5), layout="constrained")
extent = (bounds.left, bounds.right, bounds.bottom, bounds.top)
shown = axis.imshow(pixels, extent=extent, cmap="RdBu_r", vmin=-largest, vmax=largest)
axis.set(title="Phosphorus: what each pixel adds", xlabel="easting (m)", ylabel="northing (m)")
axis.ticklabel_format(style="plain", useOffset=False)
axis.tick_params(axis="x", rotation=20)
figure.colorbar(shown, label="mg/kg")
plt.show()
