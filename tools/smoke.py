"""Use an installed meteors_c as a user would, and say what it does: ``python smoke.py [--bridge | --no-bridge]``.

Works in any folder; with an option, fails unless the package has, or lacks, a bridge to the torch that is installed.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import torch

import meteors_c
from meteors_c import attr, datasets, models
from meteors_c._native import bridge


def main(arguments: list[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        native = bridge() is not None
    print(f"meteors_c {meteors_c.__version__} of {Path(meteors_c.__file__).parent}, torch {torch.__version__}, "
          f"{'with' if native else 'without'} the native bridge", *(str(w.message) for w in caught))  # fmt: skip
    if ("--bridge" in arguments and not native) or ("--no-bridge" in arguments and native):
        sys.exit("that is not what was asked for")

    hsi, truth = datasets.load_demo_field(), datasets.load_demo_truth()
    network = datasets.load_demo_model().double()
    hsi = meteors_c.HSI(image=hsi.image.double(), wavelengths=hsi.wavelengths, binary_mask=hsi.binary_mask)
    model = models.ExplainableModel(network, "regression")
    with meteors_c.options(shortcuts="always"):
        result = attr.IntegratedGradients(model).attribute(
            hsi, target=0, baseline=truth.reference.double(), n_steps=50, return_convergence_delta=True
        )
    print(result.report)
    by_band = result.attributes.sum(dim=(1, 2))
    known, other = by_band[truth.known_bands[0]].abs().mean(), by_band[~truth.known_bands[0]].abs().mean()
    print(f"known bands {known:.3g}, others {other:.3g} on average; convergence delta {result.score:.3g}")
    if not known > 2 * other:
        sys.exit("the bands that matter are not among the attributions")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.npz"
        result.save(path)
        if not torch.equal(attr.HSIAttributes.load(path).attributes, result.attributes):
            sys.exit("a result comes back from its file as another one")
    print("smoke test: 1 passed, 0 failed")


if __name__ == "__main__":
    main(sys.argv[1:])
