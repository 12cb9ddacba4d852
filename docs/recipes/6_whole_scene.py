"""
A whole scene: a map, block by block
====================================

A network sees 7 x 7 pixels and tells how a crop does. It is explained at every pixel of the fields in a scene: blocks
are read, explained and written one after the other, so that memory does not grow with the scene.

On the command line, the same is ``meteors-c explain scene.tif --model MODEL --method ig --steps 16 --window 7
--reduce window --pixels fields.npy --baseline average.npy --target 2 --out maps.zarr``.
"""

# %%
# A scene in a file
# -----------------
# Yours is there already. For this page, a GeoTIFF is made: soil, a crop, and the same crop short of nitrogen, whose
# leaves reflect more green and whose red edge lies at shorter wavelengths. Between the parcels run paths.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
import torch
from matplotlib.colors import ListedColormap
from rasterio.transform import from_origin
from torch import nn

from meteors_c import attr, io, models

names, colours = ("soil", "crop", "crop short of nitrogen"), ("tab:brown", "tab:green", "tab:orange")
wavelengths = np.arange(450.0, 950.0, 10.0)


def leaves(green, red_edge):
    """Reflectance by band."""
    peak = green * np.exp(-(((wavelengths - 550) / 35) ** 2))
    return 0.04 + peak + 0.42 / (1 + np.exp((red_edge - wavelengths) / 12))


soil = 0.08 + 0.22 * (wavelengths - 450) / 500
spectra = np.stack([soil, leaves(0.05, 722), leaves(0.08, 710)])

random = np.random.default_rng(0)
rows, columns = np.mgrid[:90, :120]
centres = np.mgrid[9:90:18, 12:120:24].reshape(2, -1).T + random.uniform(-6, 6, (25, 2))
distances = np.hypot(rows[..., None] - centres[:, 0], columns[..., None] - centres[:, 1])
labels = 1 + distances.argmin(axis=-1) % 3  # 1 to 3, as in names
nearest = np.sort(distances, axis=-1)
labels[nearest[..., 1] - nearest[..., 0] < 2] = 0  # paths

light, cover = random.normal(1, 0.05, labels.shape), random.uniform(0.6, 1, labels.shape)
covered = np.where(labels > 0, cover, 0)[..., None]
values = light[..., None] * (covered * spectra[labels - 1] + (1 - covered) * soil)
values += random.normal(0, 0.02, values.shape)

folder = Path(tempfile.mkdtemp())
with rasterio.open(
    folder / "scene.tif", "w", driver="GTiff", dtype="float32", count=50, height=90, width=120, crs="EPSG:32633",
    transform=from_origin(500_000.0, 5_540_000.0, 2.0, 2.0), tiled=True, blockxsize=64, blockysize=64,
) as file:  # fmt: skip
    file.write(values.transpose(2, 0, 1).astype("float32"))
    for band, wavelength in enumerate(wavelengths, start=1):
        file.update_tags(band, wavelength=wavelength, wavelength_units="nm")

scene = io.open_scene(folder / "scene.tif")
print(dict(scene.sizes), "from", float(scene.wavelength[0]), "to", float(scene.wavelength[-1]), "nm")

# %%
# A classifier of patches
# -----------------------
# It is trained on the western half. What is explained below lies in the eastern half.

network = nn.Sequential(
    nn.Conv2d(50, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 7), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
)
patches = torch.from_numpy(scene.values).unfold(1, 7, 1).unfold(2, 7, 1).permute(1, 2, 0, 3, 4)
inner = torch.from_numpy(labels)[3:-3, 3:-3]  # of the pixels in the middle of patches
place = torch.arange(3, 117).expand(inner.shape)
west, east = (inner > 0) & (place < 57), (inner > 0) & (place >= 60)

optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
known = west.nonzero()
for _ in range(200):
    i, j = known[torch.randint(len(known), (128,))].T
    loss = nn.functional.cross_entropy(network(patches[i, j]), inner[i, j] - 1)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
network.eval()
with torch.no_grad():
    print(f"right in the east: {(network(patches[east]).argmax(dim=1) == inner[east] - 1).float().mean():.0%}")

# %%
# Every pixel of the fields
# -------------------------
# ``pixels`` says which are explained: a mask, places, or labels as here, which also say what is averaged into the mean
# spectra. The baseline is the mean spectrum of the western fields. ``reduce="window"`` sums what all 49 pixels of a
# window contribute, so that the map is the score of each pixel, relative to that of the baseline and but for the error
# of 16 steps.
#
# With ``out``, each block is written when it is done, into a Zarr folder. A run that is cut short loses the blocks it
# was at; the same call goes on with those that are missing. Here somebody presses Ctrl-C half-way.

fields = np.where(columns >= 60, labels, 0)
average = scene.values[:, (labels > 0) & (columns < 57)].mean(axis=1)
explainer = attr.IntegratedGradients(models.ExplainableModel(network, "classification"))


def explain(progress):
    """The maps of the third class."""
    return attr.explain_scene(
        explainer, scene, window=7, pixels=fields, target=2, reduce="window", baseline=average, n_steps=16,
        out=folder / "maps.zarr", chunk=32, progress=progress,
    )  # fmt: skip


def press_ctrl_c(done, total):
    """What a bar would show; ``progress=True`` shows one."""
    if done > total / 2:
        raise KeyboardInterrupt


try:
    explain(press_ctrl_c)
except KeyboardInterrupt:
    print("interrupted")

told = []
maps = explain(lambda done, total: told.append((done, total)))
print(f"{told[0][0]} of {told[0][1]} pixels were there already")
print(maps)

# %%
# Many machines are one more argument: the workers of a dask cluster compute the blocks, and write them.
#
# .. code-block:: python
#
#     from distributed import Client
#
#     maps = attr.explain_scene(explainer, scene, ..., out="maps.zarr", client=Client("tcp://scheduler:8786"))

# %%
# The map
# -------
# Above 0 the window speaks for a crop short of nitrogen. The map lies where the scene does: ``to_raster`` of rioxarray
# writes it for a GIS. On another day, ``xarray.open_zarr(folder, decode_coords="all")`` opens it again.

of_class = maps["map"].sel(target=2)
of_class.rio.to_raster(folder / "map.tif")
with rasterio.open(folder / "map.tif") as written:
    print(written.crs, written.shape)
    bounds = written.bounds

extent = (bounds.left, bounds.right, bounds.bottom, bounds.top)
largest = float(abs(of_class).max())
figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
kinds = axes[0].imshow(labels, extent=extent, cmap=ListedColormap(["white", *colours]), vmin=-0.5, vmax=3.5)
axes[0].axvline(500_120, color="black", lw=0.8, ls="--")
axes[0].set(title="What grows there", ylabel="northing (m)")
bar = figure.colorbar(kinds, ticks=range(4), shrink=0.8, aspect=30)
bar.ax.set_yticklabels(["paths", "soil", "crop", "short of\nnitrogen"])
shown = axes[1].imshow(of_class, extent=extent, cmap="RdBu_r", vmin=-largest, vmax=largest)
axes[1].set(title="What speaks for a crop short of nitrogen")
figure.colorbar(shown, label="score of the class", shrink=0.8, aspect=30)
for axis in axes:
    axis.ticklabel_format(style="plain", useOffset=False)
    axis.set_xlabel("easting (m)")
    axis.tick_params(axis="x", rotation=20)
plt.show()

# %%
# Which bands?
# ------------
# The mean over the pixels of each class. The shaded bands are those where the two crops differ by half of the most
# that they do anywhere: the rise at the red edge is where the network should look, and does.

difference = abs(spectra[2] - spectra[1])
figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
for kind, name, colour in zip((1, 2, 3), names, colours, strict=True):
    count = int(maps["pixels"].sel({"class": kind}))
    spectrum = maps["mean_spectrum"].sel({"target": 2, "class": kind})
    axis.plot(maps["wavelength"], spectrum, color=colour, label=f"{name}, {count} pixels")
axis.fill_between(
    wavelengths, 0, 1, where=difference > difference.max() / 2, transform=axis.get_xaxis_transform(), color="gray",
    alpha=0.2, lw=0,
)  # fmt: skip
axis.axhline(0, color="black", lw=0.5)
axis.set(title="Crop short of nitrogen: mean attribution", xlabel="Wavelength (nm)", ylabel="score of the class")
axis.legend()
plt.show()
