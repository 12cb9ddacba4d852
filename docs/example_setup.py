"""The names that the examples of the reference use; ``tests/test_doctests.py`` runs this first."""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import meteors_c
from meteors_c import HSI, attr, datasets, hub, io, models, shap, utils, visualize
from meteors_c.attr import (
    FeatureAblation,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    Lime,
    NoiseTunnel,
    Occlusion,
    PerImage,
    Saliency,
    SegmentMean,
    ShapleyValueSampling,
    lime_base,
)
from meteors_c.models import ExplainableModel

torch.manual_seed(0)

# An image of 150 bands, 48 rows and 48 columns, another one, and a network that tells P, K, Mg and pH of each.
field = datasets.load_demo_field()
hsi = HSI(image=field.image[:, 24:72, 24:72], wavelengths=field.wavelengths)
other = HSI(image=field.image[:, 20:68, 24:72], wavelengths=field.wavelengths)
network = datasets.load_demo_model()
model = ExplainableModel(network, "regression")

# Superpixels (16 squares of 12 x 12 pixels, ids from 1), superbands by name, and spectra of the field.
mask = torch.arange(1, 17).reshape(4, 4).repeat_interleave(12, 0).repeat_interleave(12, 1)
groups = ["B", "G", "R", "N"]
spectra = hsi.image[:, 20:24, 20:30].flatten(1).T

# A result of each kind.
result = attr.IntegratedGradients(model).attribute(hsi, target=0, n_steps=8)
spatial = attr.Occlusion(model).get_spatial_attributes(hsi, target=0, sliding_window_shapes=12, strides=12)
spectral = attr.Occlusion(model).get_spectral_attributes(hsi, target=0, sliding_window_shapes=10, strides=10)

# A table of 40 observations with 3 features, a linear function of it, and weights of the rows.
x = torch.rand(40, 3)
y = 2 * x[:, 0] - x[:, 2]
weight = torch.ones(40)

# Shapley values of that function over the table.
explainer = shap.HyperSHAP(ExplainableModel(lambda rows: 2 * rows[:, 0] - rows[:, 2], "regression"), x.numpy())
explanation = explainer.explain(x.numpy()[:10])
