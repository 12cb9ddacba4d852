"""Store what the peer, PyPI `meteors`, answers to calls of Occlusion and the noise tunnels.

Run it in an environment where the peer is installed, from the repository's root:

    python tests/parity/make_peer_numbers_occlusion.py

test_occlusion_and_tunnels.py makes the same calls here and compares; it needs neither the peer nor this script's run.
Tunnels are compared where nothing is random: without noise, with no band replaced or with all of them.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

NUMBERS = Path(__file__).with_name("peer_numbers_occlusion.npz")
SHAPE = (5, 4, 3)
WAVELENGTHS = [450.0, 520.0, 600.0, 650.0, 800.0]
INNERS = ("Saliency", "InputXGradient", "IntegratedGradients", "Occlusion")
MOMENTS = ("smoothgrad", "smoothgrad_sq", "vargrad")

# explainers from the outside in, name of the call, orientation, images, arguments; "BASELINE" is the stored tensor
Call = tuple[tuple[str, ...], str, str, list[int], dict[str, Any]]


def occlusions() -> dict[str, Call]:
    """Windows of values, pixels and bands; image 2 is masked."""
    calls: dict[str, Call] = {}
    for window, stride in [
        (1, 1),
        (2, 1),
        (3, 2),
        ((2, 3, 1), (1, 2, 1)),
        ((5, 4, 3), (5, 4, 3)),
        ((1, 4, 3), (1, 9, 3)),
    ]:
        arguments = {"target": 1, "sliding_window_shapes": window, "strides": stride}
        calls[f"boxes {window} {stride}"] = (("Occlusion",), "attribute", "CHW", [0], arguments)
    for orientation in ("CHW", "HWC", "WCH"):
        for window, stride in [(1, 1), ((2, 2), (1, 2)), ((3, 2), (2, 2)), ((3, 3), (2, 3))]:
            arguments = {"target": 0, "sliding_window_shapes": window, "strides": stride, "baseline": 0.25}
            name = f"pixels {orientation} {window} {stride}"
            calls[name] = (("Occlusion",), "get_spatial_attributes", orientation, [2], arguments)
        for window, stride in [(1, 1), (2, 2), (3, 2), (4, 1), ((2,), (1,)), (5, 9)]:
            arguments = {"target": 2, "sliding_window_shapes": window, "strides": stride}
            name = f"bands {orientation} {window} {stride}"
            calls[name] = (("Occlusion",), "get_spectral_attributes", orientation, [0], arguments)
    several = {"target": [0, 1, 2], "sliding_window_shapes": 2, "strides": 2, "baseline": [0, 0.5, "BASELINE"]}
    for name in ("attribute", "get_spatial_attributes", "get_spectral_attributes"):
        calls[f"list {name}"] = (("Occlusion",), name, "CHW", [0, 1, 2], several)
    one = {"target": -1, "sliding_window_shapes": 2, "strides": 1, "baseline": "BASELINE", "perturbations_per_eval": 3}
    calls["tensor baseline"] = (("Occlusion",), "attribute", "CHW", [0], one)
    return calls


def tunnels() -> dict[str, Call]:
    """Every inner explainer and moment."""
    calls: dict[str, Call] = {}
    for inner in INNERS:
        for moment in MOMENTS:
            arguments = {"target": 1, "n_samples": 3, "method": moment}
            quiet = {**arguments, "stdevs": 0.0}
            calls[f"noise {inner} {moment}"] = (("NoiseTunnel", inner), "attribute", "CHW", [2], quiet)
            for bands in (0, 5):
                some = {**arguments, "baseline": 0.5, "num_perturbed_bands": bands}
                name = f"bands {bands} {inner} {moment}"
                calls[name] = (("HyperNoiseTunnel", inner), "attribute", "CHW", [2], some)
        several = {"target": [0, 2], "stdevs": [0.0, 0.0]}
        calls[f"noise list {inner}"] = (("NoiseTunnel", inner), "attribute", "CHW", [0, 1], several)
        several = {"target": [0, 2], "baseline": [0.5, "BASELINE"], "perturbation_prob": 1.0}
        calls[f"bands list {inner}"] = (("HyperNoiseTunnel", inner), "attribute", "CHW", [0, 1], several)
        turned = {"target": 0, "stdevs": 0.0}
        calls[f"noise HWC {inner}"] = (("NoiseTunnel", inner), "attribute", "HWC", [0], turned)
    return calls


CALLS = {**occlusions(), **tunnels()}


class Net(nn.Module):
    """Three outputs from all values of an image of any orientation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(60, 6)
        self.second = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x.flatten(1))))


def answer(package: ModuleType, stored: dict[str, np.ndarray], name: str, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Make one call of the table with `package`, which is this project or its peer."""
    explainers, call, orientation, which, arguments = CALLS[name]
    order = ["CHW".index(letter) for letter in orientation]

    def turned(key: str) -> torch.Tensor:
        return torch.from_numpy(stored[key]).permute(order).contiguous()

    images = [
        package.HSI(
            image=turned(f"image {i}").to(dtype),
            wavelengths=WAVELENGTHS,
            orientation=tuple(orientation),
            binary_mask=turned("mask") if i == 2 else None,
        )
        for i in which
    ]
    arguments = dict(arguments)
    if "baseline" in arguments:
        given = arguments["baseline"] if isinstance(arguments["baseline"], list) else [arguments["baseline"]]
        given = [turned("baseline").to(dtype) if entry == "BASELINE" else entry for entry in given]
        arguments["baseline"] = given if isinstance(arguments["baseline"], list) else given[0]
    net = Net()
    net.load_state_dict({key: torch.from_numpy(stored[f"net.{key}"]) for key in net.state_dict()})
    explainer = package.models.ExplainableModel(net.to(dtype).eval(), "regression")
    for part in reversed(explainers):
        explainer = getattr(package.attr, part)(explainer)
    results = getattr(explainer, call)(images if len(images) > 1 else images[0], **arguments)
    results = results if isinstance(results, list) else [results]
    found = {"attributes": torch.stack([result.attributes.detach() for result in results]).numpy()}
    if results[0].mask is not None:
        found["mask"] = torch.stack([result.mask for result in results]).numpy()
        names = [list(getattr(result, "band_names", {}).items()) for result in results]
        found["names"] = np.array(repr(names))
    return found


def main() -> None:
    """Draw weights and images, ask the peer, store all."""
    import meteors

    torch.manual_seed(21)
    stored = {f"image {i}": torch.randn(SHAPE, dtype=torch.float64).numpy() for i in range(3)}
    stored["baseline"] = torch.randn(SHAPE, dtype=torch.float64).numpy()
    stored["mask"] = (torch.rand(1, 4, 3) > 0.3).expand(SHAPE).contiguous().numpy()
    stored |= {f"net.{key}": value.numpy() for key, value in Net().double().state_dict().items()}
    for name in CALLS:
        for what, values in answer(meteors, stored, name, torch.float64).items():
            stored[f"{name}: {what}"] = values
    np.savez_compressed(NUMBERS, **stored)
    print(f"{len(CALLS)} calls, {NUMBERS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
