"""
A patch classifier: which bands tell corn from soybean?
=======================================================

A network sees 9 x 9 pixels and names the crop in the middle. Its patches are explained in one call, and the mean over
many of them says what it looks at.

The scene is AVIRIS Indian Pines (Baumgardner et al. 2015, doi:10.4231/R7RX991C, CC BY 3.0); it comes with the package
``tensorly``. The network comes with meteors_c and has not seen the pixels that are explained here.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from meteors_c import HSI, attr, datasets, models

scene = datasets.load_indian_pines()
classifier = datasets.indian_pines_classifier()

# %%
# The question as one number
# --------------------------
# Three classes are corn and three are soybean. The log odds say what separates them: above 0 for corn, below for
# soybean. Any network whose output is a batch of numbers can be explained.


class LogOdds(nn.Module):
    """Corn against soybean."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, patches):
        """(n, 200, 9, 9) to (n,)."""
        scores = self.classifier(patches)
        return scores[:, [1, 2, 3]].logsumexp(dim=1) - scores[:, [9, 10, 11]].logsumexp(dim=1)


model = models.ExplainableModel(LogOdds(classifier).eval(), "regression")

# %%
# Patches
# -------
# Forty pixels of each crop from the strips that were held out in training, with 4 pixels around each.

padded = nn.functional.pad(scene.hsi.image[None], (4, 4, 4, 4), mode="reflect")[0]


def patches_of(crop, count=40):
    """Images around pixels of a crop, at equal distances in the list of all."""
    places = (scene.pixels(crop) & scene.held_out).nonzero()
    chosen = places[torch.linspace(0, len(places) - 1, count).long()]
    cut = [padded[:, row : row + 9, column : column + 9].contiguous() for row, column in chosen.tolist()]
    return [HSI(image=image, wavelengths=scene.wavelengths) for image in cut]


patches = {"corn": patches_of("Corn"), "soybean": patches_of("Soybean")}
for crop, images in patches.items():
    with torch.no_grad():
        odds = model(torch.stack([image.get_image() for image in images]))
    print(f"{crop:8s} log odds {odds.mean():+.2f}, above 0 for {int((odds > 0).sum())} of {len(odds)}")

# %%
# All patches in one call
# -----------------------
# A list of images is one job: they share batches. The baseline is the mean spectrum of both crops in training, so that
# the attributions say what sets a patch apart from what the crops have in common.

both = [scene.hsi.image[:, scene.pixels(crop) & scene.training].mean(dim=1) for crop in ("Corn", "Soybean")]
baseline = torch.stack(both).mean(dim=0)
explainer = attr.IntegratedGradients(model)
by_band = {}
for crop, images in patches.items():
    results = explainer.attribute(images, baseline=baseline, n_steps=32)
    by_band[crop] = torch.stack([result.attributes.sum(dim=(1, 2)) for result in results])
print(results[0].report)

# %%
# What is above 0 speaks for corn, what is below for soybean. The shaded range is one standard error of the mean.

figure, axes = plt.subplots(2, 1, figsize=(9, 6), sharex=True, sharey=True, layout="constrained")
for axis, (crop, values) in zip(axes, by_band.items(), strict=True):
    mean, error = values.mean(dim=0), values.std(dim=0) / len(values) ** 0.5
    order = scene.wavelengths.argsort()
    axis.fill_between(scene.wavelengths[order], (mean - error)[order], (mean + error)[order], alpha=0.3)
    axis.plot(scene.wavelengths[order], mean[order], lw=1)
    axis.axhline(0, color="black", lw=0.5)
    axis.set(title=f"Patches of {crop}", ylabel="log odds of corn")
axes[1].set_xlabel("Wavelength (nm)")
plt.show()

# %%
# Without gradients
# -----------------
# Occlusion asks the same without gradients: what do the log odds lose if ten bands take the values of the baseline?
# It needs one evaluation for each window, so it takes any model, networks that can't be differentiated too.

occluded = attr.Occlusion(model).get_spectral_attributes(
    patches["corn"], baseline=baseline, sliding_window_shapes=10, strides=10
)
lost = torch.stack([result.flattened_attributes for result in occluded]).reshape(-1, 20, 10)[:, :, 0].mean(dim=0)

# %%
# Do the two methods agree? Integrated gradients are summed over the same windows. They need not be equal: a window's
# bands may be worth little where others carry the same information.

windows = by_band["corn"].reshape(-1, 20, 10).sum(dim=2).mean(dim=0)
print(f"correlation over {len(windows)} windows: {torch.corrcoef(torch.stack([windows, lost]))[0, 1]:.2f}")

figure, axis = plt.subplots(figsize=(9, 3.4), layout="constrained")
for shift, values, name in ((-0.2, windows, "integrated gradients, summed"), (0.2, lost, "occlusion")):
    axis.bar(torch.arange(20) + shift, values, 0.4, label=name)
axis.axhline(0, color="black", lw=0.5)
axis.set_xticks(range(20), [f"{value:.0f}" for value in scene.wavelengths[::10]], rotation=45)
axis.set(title="Patches of corn, by windows of ten bands", xlabel="first wavelength (nm)", ylabel="log odds of corn")
axis.legend()
plt.show()
