"""
Any callable: a random forest, LightGBM, ONNX Runtime
=====================================================

Methods by outputs alone (occlusion, ablation, LIME, Shapley values) take any function from arrays to numbers.
"""

import lightgbm
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from meteors_c import HSI, attr, datasets, models

# %%
# Three models of spectra
# -----------------------
# Each tells corn from soybean by the spectrum of one pixel of Indian Pines (doi:10.4231/R7RX991C, CC BY 3.0).

scene = datasets.load_indian_pines()
corn, soybean = scene.pixels("Corn"), scene.pixels("Soybean")
pixels = scene.training & (corn | soybean)
spectra, is_corn = scene.hsi.image[:, pixels].T.numpy(), corn[pixels].numpy()
centre, unit = spectra.mean(axis=0), spectra.std(axis=0)

forest = RandomForestClassifier(50, min_samples_leaf=3, random_state=0).fit(spectra, is_corn)
boosted = lightgbm.LGBMClassifier(n_estimators=50, num_leaves=15, random_state=0, n_jobs=1, verbose=-1)
boosted.fit(spectra, is_corn)
linear = LogisticRegression(C=0.01, max_iter=500).fit((spectra - centre) / unit, is_corn)

# %%
# The third one is stored as an ONNX graph, as any exporter would do, and run by ONNX Runtime.

stored = {"centre": centre, "unit": unit, "weight": linear.coef_.T, "shift": linear.intercept_}
graph = helper.make_graph(
    [
        helper.make_node("Sub", ["spectra", "centre"], ["moved"]),
        helper.make_node("Div", ["moved", "unit"], ["standard"]),
        helper.make_node("Gemm", ["standard", "weight", "shift"], ["odds"]),
        helper.make_node("Sigmoid", ["odds"], ["probability"]),
    ],
    "linear",
    [helper.make_tensor_value_info("spectra", TensorProto.FLOAT, [None, len(centre)])],
    [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
    [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in stored.items()],
)
written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])

# %%
# Wrapped
# -------
# A model of images takes ``(n, bands, rows, columns)`` and gives ``(n,)`` or ``(n, outputs)``. Here it is the mean
# probability of corn over the pixels of an image. ``array_input=True`` hands NumPy arrays to the function.


def of_images(predict):
    """A model of images from a function of spectra."""

    def mean_probability(images):
        n, bands = images.shape[:2]
        table = np.ascontiguousarray(np.moveaxis(images, 1, -1).reshape(-1, bands), dtype=np.float32)
        return np.asarray(predict(table)).reshape(n, -1).mean(axis=1)

    return models.ExplainableModel(mean_probability, "classification", array_input=True)


explained = {
    "random forest": of_images(lambda table: forest.predict_proba(table)[:, 1]),
    "LightGBM": of_images(lambda table: boosted.booster_.predict(table)),
    "ONNX Runtime": of_images(lambda table: session.run(None, {"spectra": table})[0][:, 0]),
}

# %%
# Explained
# ---------
# A strip that no model has seen, corn in the left half and soybean in the right. Exact Shapley values of five parts of
# the spectrum: what each adds to the probability of corn, over all the company that it can have.

hsi = HSI(image=scene.hsi.image[:, 24:36, 28:88].contiguous(), wavelengths=scene.wavelengths)
edges = torch.tensor([700.0, 1000.0, 1380.0, 1880.0])
parts = torch.bucketize(scene.wavelengths, edges)
names = ["visible", "to 1000 nm", "to 1380 nm", "to 1880 nm", "to 2500 nm"]
baseline = torch.from_numpy(centre)

figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
for offset, (name, model) in zip((-0.27, 0.0, 0.27), explained.items(), strict=True):
    result = attr.KernelShap(model).get_spectral_attributes(hsi, parts, baseline=baseline)
    effects = result.effects
    axis.bar(np.arange(5) + offset, effects.values, 0.25, label=name)
    print(
        f"{name:14s} {result.report.evaluations} evaluations, exact: {effects.exact}, sum {effects.values.sum():+.4f}, "
        f"difference of the outputs {effects.output - effects.baseline_output:+.4f}"
    )
axis.axhline(0, color="black", lw=0.5)
axis.set_xticks(range(5), names)
axis.set(title="Shapley values of parts of the spectrum", ylabel="probability of corn")
axis.legend()
plt.show()
