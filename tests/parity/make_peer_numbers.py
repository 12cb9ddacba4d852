"""Store what the peer, PyPI `meteors`, answers to a table of calls, together with the model and the images.

Run it in an environment where the peer is installed, from the repository's root:

    python tests/parity/make_peer_numbers.py

test_peer.py makes the same calls here and compares; it needs neither the peer nor this script's run.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

NUMBERS = Path(__file__).with_name("peer_numbers.npz")
SHAPE = (5, 4, 3)
WAVELENGTHS = [450.0, 520.0, 600.0, 650.0, 800.0]

# method, arguments of its constructor, images, arguments of attribute; "BASELINE" stands for the stored tensor
CALLS: dict[str, tuple[str, dict[str, Any], list[int], dict[str, Any]]] = {
    "saliency": ("Saliency", {}, [0], {"target": 1}),
    "saliency signed": ("Saliency", {}, [0], {"target": 1, "abs": False}),
    "saliency masked": ("Saliency", {}, [2], {"target": 1, "abs": False}),
    "saliency list": ("Saliency", {}, [0, 1, 2], {"target": [0, 1, 2]}),
    "saliency one target": ("Saliency", {}, [0, 1], {"target": 2}),
    "saliency negative target": ("Saliency", {}, [0], {"target": -1}),
    "saliency grid": ("Saliency", {}, [0], {"target": (1, 0)}),
    "input x gradient": ("InputXGradient", {}, [0], {"target": 0}),
    "input x gradient masked": ("InputXGradient", {}, [2], {"target": 0}),
    "input x gradient list": ("InputXGradient", {}, [0, 1], {"target": [2, 0]}),
    "integrated": ("IntegratedGradients", {}, [0], {"target": 0}),
    "integrated masked": ("IntegratedGradients", {}, [2], {"target": 0, "baseline": 0.25}),
    "integrated delta": ("IntegratedGradients", {}, [0], {"target": 0, "return_convergence_delta": True, "n_steps": 4}),
    "integrated number": ("IntegratedGradients", {}, [0], {"target": 1, "baseline": 0.5}),
    "integrated integer": ("IntegratedGradients", {}, [0], {"target": 1, "baseline": 1, "n_steps": 7}),
    "integrated tensor": (
        "IntegratedGradients",
        {},
        [0],
        {"target": 2, "baseline": "BASELINE", "n_steps": 6, "return_convergence_delta": True},
    ),
    "integrated chunks": ("IntegratedGradients", {}, [0], {"target": 2, "n_steps": 9, "internal_batch_size": 2}),
    "integrated mean": ("IntegratedGradients", {"multiply_by_inputs": False}, [0], {"target": 2, "n_steps": 5}),
    "integrated list": (
        "IntegratedGradients",
        {},
        [0, 1, 2],
        {"target": [0, 1, 2], "baseline": [0, 0.5, "BASELINE"], "n_steps": 5, "return_convergence_delta": True},
    ),
    "integrated keep": ("IntegratedGradients", {}, [0], {"target": 0, "n_steps": 5, "keep_gradient": True}),
    **{
        f"integrated {rule} {n}": (
            "IntegratedGradients",
            {},
            [0],
            {"target": 0, "baseline": 0.5, "n_steps": n, "method": rule, "return_convergence_delta": True},
        )
        for rule in ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")
        for n in (2, 5)
    },
}


class Net(nn.Module):
    """Outputs (n, 3), or (n, 2, 2) where `grid`."""

    def __init__(self, activation: type[nn.Module] = nn.Tanh, grid: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.first = nn.Conv2d(5, 4, 3, padding=1)
        self.activation = activation()
        self.second = nn.Linear(4 * 4 * 3, 4 if grid else 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.activation(self.first(x)).flatten(1))
        return y.reshape(-1, 2, 2) if self.grid else y


def net_of(stored: dict[str, np.ndarray], name: str, dtype: torch.dtype) -> Net:
    """The network that a call is about, with its stored weights."""
    net = Net(nn.ReLU if name.startswith("relu") else nn.Tanh, "grid" in name)
    kind = "grid" if net.grid else "net"
    net.load_state_dict({key: torch.from_numpy(stored[f"{kind}.{key}"]) for key in net.state_dict()})
    return net.to(dtype).eval()


def answer(package: ModuleType, stored: dict[str, np.ndarray], name: str, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Make one call of the table with `package`, which is this project or its peer."""
    method, construction, which, arguments = CALLS[name.removeprefix("relu ")]
    images = [
        package.HSI(
            image=torch.from_numpy(stored[f"image {i}"]).to(dtype),
            wavelengths=WAVELENGTHS,
            binary_mask=torch.from_numpy(stored["mask"]) if i == 2 else None,
        )
        for i in which
    ]
    baseline = torch.from_numpy(stored["baseline"]).to(dtype)
    arguments = dict(arguments)
    if "baseline" in arguments:
        given = arguments["baseline"] if isinstance(arguments["baseline"], list) else [arguments["baseline"]]
        given = [baseline if entry == "BASELINE" else entry for entry in given]
        arguments["baseline"] = given if isinstance(arguments["baseline"], list) else given[0]
    model = package.models.ExplainableModel(net_of(stored, name, dtype), "regression")
    explainer = getattr(package.attr, method)(model, **construction)
    results = explainer.attribute(images if len(images) > 1 else images[0], **arguments)
    results = results if isinstance(results, list) else [results]
    found = {"attributes": torch.stack([result.attributes.detach() for result in results]).numpy()}
    if results[0].score is not None:
        found["score"] = np.array([result.score for result in results])
    return found


def names() -> list[str]:
    """All calls, on the smooth network and on one with kinks."""
    return [*CALLS, *(f"relu {name}" for name in CALLS)]


def main() -> None:
    """Draw weights and images, ask the peer, store all."""
    import meteors

    torch.manual_seed(20)
    stored = {f"image {i}": torch.randn(SHAPE, dtype=torch.float64).numpy() for i in range(3)}
    stored["baseline"] = torch.randn(SHAPE, dtype=torch.float64).numpy()
    stored["mask"] = (torch.rand(1, 4, 3) > 0.3).numpy()
    for kind in ("net", "grid"):
        state = Net(grid=kind == "grid").double().state_dict()
        stored |= {f"{kind}.{key}": value.numpy() for key, value in state.items()}
    for name in names():
        for what, values in answer(meteors, stored, name, torch.float64).items():
            stored[f"{name}: {what}"] = values
    np.savez_compressed(NUMBERS, **stored)
    print(f"{len(names())} calls, {NUMBERS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
