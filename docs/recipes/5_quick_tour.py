"""
A quick tour, to be run as a notebook
=====================================

One image, one network, and the methods side by side; the notebook can be downloaded at the end of this page. The
repository's own notebooks go further: ``make demo`` runs them all.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from meteors_c import attr, datasets, models, visualize

# %%
# An image and a model
# --------------------
# The field is simulated, and each of the four outputs acts on bands that are known: what the methods say can be
# checked.

hsi, truth = datasets.load_demo_field(), datasets.load_demo_truth()
model = models.ExplainableModel(datasets.load_demo_model(), "regression")
magnesium = truth.names.index("Mg")
print(hsi)
visualize.visualize_hsi(hsi, title="The field")
plt.show()

# %%
# Which pixels and bands?
# -----------------------
# Integrated gradients share the difference from the output of a baseline among all values. The baseline here is the
# spectrum of an average field.

baseline = truth.reference[:, None, None] * hsi.spatial_binary_mask
result = attr.IntegratedGradients(model).attribute(
    hsi, baseline=baseline, target=magnesium, n_steps=50, return_convergence_delta=True
)
visualize.visualize_attributes(result, title="Integrated gradients of magnesium")
plt.show()

# %%
# Every result says how it was made. The score of this method is what its sum misses.

print(result.report)
print(f"sum {result.attributes.double().sum():.3f} mg/kg, missed by {result.score:.1e}")

# %%
# The methods side by side
# ------------------------

explainers = {
    "Saliency": lambda: attr.Saliency(model).attribute(hsi, target=magnesium),
    "InputXGradient": lambda: attr.InputXGradient(model).attribute(hsi, target=magnesium),
    "IntegratedGradients": lambda: result,
    "HyperNoiseTunnel(Saliency)": lambda: attr.HyperNoiseTunnel(attr.Saliency(model)).attribute(
        hsi, baseline=baseline, target=magnesium, n_samples=20
    ),
    "Occlusion of 10 bands": lambda: attr.Occlusion(model).get_spectral_attributes(
        hsi, baseline=baseline, target=magnesium, sliding_window_shapes=10, strides=10
    ),
}
figure, axes = plt.subplots(len(explainers), 1, figsize=(9, 9), sharex=True, layout="constrained")
known = truth.known_bands[magnesium]
for axis, (name, explain) in zip(axes, explainers.items(), strict=True):
    by_band = explain().attributes.abs().sum(dim=(1, 2))
    share = by_band / by_band.sum()
    axis.plot(hsi.wavelengths, share, lw=1.2)
    axis.fill_between(hsi.wavelengths, 0, share.max(), where=known, color="tab:orange", alpha=0.25, lw=0)
    axis.set(title=f"{name}: {share[known].sum():.0%} on the bands that act", yticks=[])
axes[-1].set_xlabel("Wavelength (nm); the bands that act on magnesium are shaded")
plt.show()

# %%
# Superbands: exact Shapley values
# --------------------------------
# Groups of bands are few enough to ask for each coalition of them. Beside the diagonal stands what pairs add together.

groups = torch.arange(150) // 25  # six superbands of 25 bands
shapley = attr.KernelShap(model).get_spectral_attributes(
    hsi, groups, baseline=baseline, target=magnesium, interactions=True
)
spans = [f"{hsi.wavelengths[k]:.0f}-{hsi.wavelengths[k + 24]:.0f}" for k in range(0, 150, 25)]
figure, axis = visualize.visualize_interactions(shapley.effects, spans)
axis.set_xlabel("superbands (nm)")
print(f"{shapley.report.evaluations} evaluations, exact: {shapley.effects.exact}")
plt.show()

# %%
# Kept
# ----
# Results are stored without pickles, and come back exactly as they were.

path = Path(tempfile.mkdtemp()) / "magnesium.npz"
result.save(path)
print(attr.HSIAttributes.load(path) == result)
