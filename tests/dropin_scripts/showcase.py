"""Knows only meteors: every way to import it, and one job. Prints what it found as JSON."""

import importlib
import json
import pickle
import sys

import meteors
import meteors as mt
import meteors.attr.integrated_gradients
import meteors.visualize as vis
import torch
from meteors import HSI
from meteors.attr import HSIAttributes, Saliency
from meteors.exceptions import ShapeMismatchError
from meteors.models import ExplainableModel
from meteors.utils import aggregate_by_mask

torch.manual_seed(0)
model = ExplainableModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 2)).eval(), "regression")
hsi = mt.HSI(image=torch.rand(4, 2, 3), wavelengths=[450.0, 550.0, 650.0, 850.0])
attributes = Saliency(model).attribute(hsi, target=1)
importlib.reload(meteors)
importlib.reload(meteors.visualize)
kept = pickle.loads(pickle.dumps(attributes))

try:
    meteors.attr.NeverHeardOf  # noqa: B018
except AttributeError as error:
    attribute_error = str(error)
try:
    from meteors.attr import NeverHeardOf  # noqa: F401
except ImportError as error:
    from_error = str(error)
try:
    import meteors.never_heard_of
except ModuleNotFoundError as error:
    module_error = str(error)

checks = {
    "one HSI": HSI is mt.HSI is meteors.hsi.HSI and isinstance(hsi, HSI),
    "one result class": type(attributes) is HSIAttributes is meteors.attr.attributes.HSIAttributes,
    "submodule by attribute": meteors.attr.IntegratedGradients is meteors.attr.integrated_gradients.IntegratedGradients,
    "submodule by alias": vis is mt.visualize is sys.modules["meteors.visualize"] and callable(vis.visualize_hsi),
    "pickle": kept == attributes and type(kept) is HSIAttributes,
    "error class": ShapeMismatchError is mt.exceptions.ShapeMismatchError,
    "function": callable(aggregate_by_mask),
    "version": isinstance(meteors.__version__, str),
}
print(
    json.dumps(
        {
            "checks": checks,
            "backend": HSI.__module__,
            "errors": [attribute_error, from_error, module_error],
            "attributes": attributes.attributes.flatten().tolist(),
        }
    )
)
