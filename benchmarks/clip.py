"""Measure integrated gradients of a model of CLIP ViT-L/14's size: seconds and peak memory, the model's own included.

``python -m benchmarks.clip`` takes minutes on a small machine: 50 steps, each a forward and a backward pass of a
300-million-parameter network in float32. ``--steps`` shortens it. The last line says whether the process stayed within
``--limit`` gigabytes; the exit status is 1 if it did not.

Measured on two busy cores: 304 million weights, 9.8 s for one forward and backward in plain torch, 443 s for 50 steps
with the convergence delta, 2.27 GB at most, of which the weights are 1.22 GB.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from torch.nn import functional

import meteors_c
from meteors_c import datasets
from meteors_c.attr import IntegratedGradients
from meteors_c.datasets.clip import make_clip_model
from meteors_c.models import ExplainableModel

from .memory import peak_bytes


def field(size: int) -> meteors_c.HSI:
    """The embedded field as reflectance, resized to `size` x `size` pixels."""
    hsi = datasets.load_demo_field()
    image = functional.interpolate(hsi.get_image()[None] / 10000.0, size=(size, size), mode="bilinear")[0]
    inside = functional.interpolate(hsi.spatial_binary_mask[None, None].float(), size=(size, size))[0, 0] > 0
    return meteors_c.HSI(image=image, wavelengths=hsi.wavelengths, binary_mask=inside.expand(image.shape))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="points on the path (default: 50)")
    parser.add_argument("--layers", type=int, default=24, help="layers of the transformer (default: 24)")
    parser.add_argument("--limit", type=float, default=6.0, help="gigabytes that it may take (default: 6)")
    arguments = parser.parse_args()

    start = time.perf_counter()
    network = make_clip_model(layers=arguments.layers)
    hsi = field(network.size)
    weights = sum(weight.numel() for weight in network.parameters())
    print(f"{weights / 1e6:.0f} million weights, made in {time.perf_counter() - start:.1f} s; "
          f"{torch.get_num_threads()} threads; {peak_bytes() / 1e9:.2f} GB so far")  # fmt: skip

    image = hsi.get_image()[None].requires_grad_()
    start = time.perf_counter()
    network(image)[0, 0].backward()
    print(f"one forward and backward in plain torch: {time.perf_counter() - start:.2f} s; "
          f"{peak_bytes() / 1e9:.2f} GB so far", flush=True)  # fmt: skip
    del image

    model = ExplainableModel(network, "regression")
    start = time.perf_counter()
    result = IntegratedGradients(model).attribute(hsi, target=0, n_steps=arguments.steps, return_convergence_delta=True)
    print(f"integrated gradients, {arguments.steps} steps: {time.perf_counter() - start:.1f} s")
    print(f"sum of attributions {result.attributes.double().sum():.6f}, convergence delta {result.score:.2e}")
    print(result.report)
    peak = peak_bytes() / 1e9
    print(f"peak memory of the process: {peak:.2f} GB (limit {arguments.limit:g} GB)")
    return 0 if peak <= arguments.limit else 1


if __name__ == "__main__":
    sys.exit(main())
