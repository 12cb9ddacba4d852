"""
A U-Net: what a map depends on
==============================

A segmentation network gives each pixel a class. An explanation needs one number: how much of a class the map holds.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from meteors_c import HSI, attr, datasets, models, utils
from meteors_c.datasets.indian_pines import GROUPS

# %%
# A map
# -----
# The U-Net comes with meteors_c. It maps five groups of crops; the part shown lies across rows that were hidden from it
# in training (Indian Pines, doi:10.4231/R7RX991C, CC BY 3.0).

scene = datasets.load_indian_pines()
names = [name for name, _ in GROUPS]
hsi = HSI(image=scene.hsi.image[:, 20:44, 24:96].contiguous(), wavelengths=scene.wavelengths)
network = nn.Sequential(datasets.indian_pines_unet(), nn.Softmax(dim=1)).eval()
with torch.no_grad():
    mapped = network(hsi.image[None])[0].argmax(dim=0)

figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
shown = axis.imshow(mapped, cmap=plt.get_cmap("Set2", 5), vmin=-0.5, vmax=4.5)
figure.colorbar(shown, ticks=range(5)).ax.set_yticklabels(names)
axis.set(title="The map", xticks=[], yticks=[])
plt.show()

# %%
# From a map to numbers
# ---------------------
# `utils.agg_segmentation_postprocessing` sums each class's score over the pixels that it wins: nearly the number of
# its pixels, but smooth enough for gradients.

areas = utils.agg_segmentation_postprocessing(soft_labels=True)
model = models.ExplainableModel(network, "segmentation", postprocessing_output=areas)
with torch.no_grad():
    for name, area in zip(names, model(hsi.image[None])[0], strict=True):
        print(f"{name:22s} {area:7.1f} pixels")

# %%
# Where does the corn come from?
# ------------------------------
# Squares of 6 x 6 pixels are covered by the mean spectrum. ``target="all"`` answers for all classes with the
# evaluations of one.

baseline = scene.hsi.image[:, scene.training].mean(dim=1)
occlusion = attr.Occlusion(model)
squares = occlusion.get_spatial_attributes(hsi, target="all", baseline=baseline, sliding_window_shapes=6, strides=3)
print(squares[0].report)

figure, axes = plt.subplots(2, 1, figsize=(8, 5.6), layout="constrained")
for axis, k in zip(axes, (0, 1), strict=True):
    values = squares[k].flattened_attributes
    largest = float(values.abs().max())
    shown = axis.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
    axis.contour(mapped == k, levels=[0.5], colors="black", linewidths=0.8)
    axis.set(title=f"What {names[k]} (outlined) loses without each place", xticks=[], yticks=[])
    figure.colorbar(shown, label="pixels", shrink=0.8)
plt.show()

# %%
# Which bands?
# ------------

windows = occlusion.get_spectral_attributes(hsi, target="all", baseline=baseline, sliding_window_shapes=10, strides=10)
figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
centres = scene.wavelengths.reshape(-1, 10).mean(dim=1)
for k in (0, 1, 4):
    axis.plot(centres, windows[k].flattened_attributes[::10], "o-", ms=4, label=names[k])
axis.axhline(0, color="black", lw=0.5)
axis.set(title="What the map loses without 10 bands", xlabel="Wavelength (nm)", ylabel="pixels")
axis.legend()
plt.show()
