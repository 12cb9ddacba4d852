"""Store what the peer, PyPI `meteors`, finds with LIME: means and standard errors of its results over many seeds.

Run it in an environment where the peer is installed, from the repository's root:

    python tests/parity/make_peer_numbers_lime.py

test_lime_peer.py makes the same calls here and compares; it needs neither the peer nor this script's run. Samples are
random, so single results differ; what is compared is their distribution.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

NUMBERS = Path(__file__).with_name("peer_numbers_lime.json")
SHAPE = (5, 4, 3)
WAVELENGTHS = [450.0, 520.0, 600.0, 650.0, 800.0]
SEEDS = 300
SEGMENTS = torch.tensor([[0, 0, 1], [0, 1, 1], [2, 1, 3], [2, 3, 3]])
BANDS = torch.tensor([0, 0, 1, 2, 2])


def numbers(seed: int, *shape: int) -> torch.Tensor:
    """Numbers in (-1, 1) that no generator has to agree on."""
    count = torch.arange(1.0, 1 + int(np.prod(shape)), dtype=torch.float64)
    return torch.sin(count * (1.7 + seed) + seed).reshape(shape).float()


def linear(x: torch.Tensor) -> torch.Tensor:
    """One output, linear in the image."""
    return (x * numbers(1, *SHAPE)).sum((1, 2, 3))[:, None]


def nonlinear(x: torch.Tensor) -> torch.Tensor:
    """One output that mixes pixels and bands."""
    hidden = x.flatten(1) @ numbers(2, 60, 6)
    return 2 * (torch.tanh(hidden) @ numbers(3, 6, 1)) + 0.3 * hidden[:, :1] * hidden[:, 1:2]


# model, spatial or spectral, samples, surrogate ("" is the default one) and its arguments, kernel (None: the default)
Call = tuple[Callable[..., Any], str, int, str, dict[str, Any], tuple[str, float] | None]
CALLS: dict[str, Call] = {
    "linear, default": (linear, "spatial", 40, "", {}, None),
    "linear, bands": (linear, "spectral", 30, "SkLearnLinearRegression", {}, None),
    "nonlinear, default": (nonlinear, "spatial", 60, "", {}, None),
    "nonlinear, few samples": (nonlinear, "spatial", 10, "SkLearnRidge", {"alpha": 0.5}, None),
    "nonlinear, bands": (nonlinear, "spectral", 40, "SkLearnLinearRegression", {}, None),
    "nonlinear, small alpha": (nonlinear, "spectral", 50, "SkLearnLasso", {"alpha": 0.001}, None),
    "nonlinear, euclidean": (nonlinear, "spatial", 60, "SkLearnLinearRegression", {}, ("euclidean", 3.0)),
    "nonlinear, narrow": (nonlinear, "spatial", 60, "SkLearnLinearRegression", {}, ("cosine", 0.2)),
}


def results(package: ModuleType, name: str, seeds: int) -> np.ndarray:
    """Make one call of the table for many seeds: (seeds, features + 1), the coefficients and the score."""
    model, kind, n_samples, surrogate, arguments, kernel = CALLS[name]
    hsi = package.HSI(image=numbers(0, *SHAPE), wavelengths=WAVELENGTHS)
    explainable = package.models.ExplainableModel(model, "regression")
    interpretable = getattr(package.models, surrogate)(**arguments) if surrogate else None
    similarity = None
    if kernel is not None:
        from importlib import import_module

        lime_base = import_module(f"{package.__name__}.attr.lime_base")
        similarity = lime_base.get_exp_kernel_similarity_function(*kernel)
    given = {} if interpretable is None else {"interpretable_model": interpretable}
    explainer = package.attr.Lime(explainable, similarity_func=similarity, **given)
    mask = SEGMENTS if kind == "spatial" else BANDS
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - for the peer
        call = explainer.get_spatial_attributes if kind == "spatial" else explainer.get_spectral_attributes
        result = call(hsi, mask, target=0, n_samples=n_samples)
        flat = result.flattened_attributes.reshape(-1)
        where = mask.reshape(-1)
        found.append([*(float(flat[where == one][0]) for one in where.unique()), result.score])
    return np.array(found)


def main() -> None:
    """Ask the peer, and store means and standard deviations."""
    import meteors

    logging.disable()
    warnings.simplefilter("ignore")
    stored = {}
    for name in CALLS:
        found = results(meteors, name, SEEDS)
        stored[name] = {"seeds": SEEDS, "mean": found.mean(0).tolist(), "deviation": found.std(0, ddof=1).tolist()}
    NUMBERS.write_text(json.dumps(stored, indent=1) + "\n")
    print(f"{len(CALLS)} calls, {NUMBERS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
