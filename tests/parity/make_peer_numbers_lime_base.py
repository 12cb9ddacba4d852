"""Store what the peer, PyPI `meteors`, answers to calls of `lime_base`.

Run it in an environment where the peer is installed, from the repository's root:

    python tests/parity/make_peer_numbers_lime_base.py

test_lime_base.py makes the same calls here and compares; it needs neither the peer nor this script's run. Samples come
from a generator of stored rows, so that both fit the same; of samples that each draws itself, the means of many runs
are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

NUMBERS = Path(__file__).with_name("peer_numbers_lime_base.npz")
SAMPLES = 40
RUNS = 300

# the inputs, the surrogate, the kernel, and the arguments; texts are stored tensors
Call = tuple[tuple[str, ...], tuple[str, dict[str, Any]], tuple[str, float], dict[str, Any]]
LINEAR = ("SkLearnLinearRegression", {})
SURROGATES = [LINEAR, ("SkLearnRidge", {"alpha": 0.5}), ("SkLearnLasso", {"alpha": 0.02, "tol": 1e-10})]
KERNELS = [("cosine", 1.0), ("cosine", 0.3), ("euclidean", 2.5)]


def calls() -> dict[str, Call]:
    """Surrogates with kernels, and inputs with masks and baselines."""
    found: dict[str, Call] = {}
    for surrogate in SURROGATES:
        for kernel in KERNELS:
            found[f"{surrogate[0]} {kernel}"] = (("line",), surrogate, kernel, {"target": 1})
    for name, arguments in {
        "number": {"baselines": 0.5},
        "tensor": {"baselines": "line baseline"},
        "groups": {"feature_mask": "line groups"},
        "by feature": {"feature_mask": "line groups", "return_input_shape": False},
    }.items():
        found[name] = (("line",), LINEAR, KERNELS[2], {"target": 0, **arguments})
    pair = {"target": 2, "feature_mask": ("line groups", "plane groups"), "baselines": (0.25, "plane baseline")}
    for kernel in KERNELS:
        found[f"pair {kernel}"] = (("line", "plane"), LINEAR, kernel, pair)
    found["by value"] = (("plane",), LINEAR, KERNELS[2], {"target": 0})
    return found


CALLS = calls()


def model(line: torch.Tensor, plane: torch.Tensor | None = None) -> torch.Tensor:
    """Give (n, 3), neither linear nor symmetric, for a line of values, a plane or both."""
    values = line.flatten(1) if plane is None else torch.cat([line.flatten(1), plane.flatten(1)], 1)
    angles = torch.arange(1, values.shape[1] + 1, dtype=values.dtype)
    return torch.stack([(torch.sin(values * angles * k)).sum(1) + (values[:, 0] * values[:, -1]) for k in (1, 2, 3)], 1)


def answer(package: ModuleType, base: ModuleType, stored: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Make one call of the table with `package`, which is this project or its peer, and its `lime_base`."""
    which, (surrogate, options), kernel, arguments = CALLS[name]

    def tensors(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(tensors, value))
        return torch.from_numpy(stored[value]) if isinstance(value, str) else value

    def rows(original: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
        for row in stored["rows"][:, : kwargs["num_interp_features"]]:
            yield torch.from_numpy(row)[None]

    lime = base.Lime(
        model,
        getattr(package.models, surrogate)(**options),
        base.get_exp_kernel_similarity_function(*kernel),
        rows,
    )
    inputs = tensors(which) if len(which) > 1 else tensors(which[0])
    arguments = {key: tensors(value) for key, value in arguments.items()}
    found, score = lime.attribute(inputs, n_samples=SAMPLES, **arguments)
    parts = found if isinstance(found, tuple) else (found,)
    return {"score": score.numpy()} | {f"part {i}": part.numpy() for i, part in enumerate(parts)}


def runs(package: ModuleType, base: ModuleType, stored: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Return coefficients and score of calls that draw their samples, (count, features + 1)."""
    line, rows = torch.from_numpy(stored["line"]), []
    for k in range(count):
        torch.manual_seed(k)
        found, score = base.Lime(model, package.models.SkLearnRidge(alpha=0.5)).attribute(line, target=0)
        rows.append(np.append(found.numpy().ravel(), score.item()))
    return np.stack(rows)


def main() -> None:
    """Draw inputs and samples, ask the peer, store all."""
    import meteors
    from meteors.attr import lime_base

    generator = np.random.default_rng(5)
    stored = {
        "line": generator.normal(size=(1, 6)),
        "line baseline": generator.normal(size=(1, 6)),
        "line groups": np.array([[0, 0, 1, 2, 2, 3]]),
        "plane": generator.normal(size=(1, 2, 3)),
        "plane baseline": generator.normal(size=(1, 2, 3)),
        "plane groups": np.array([[[4, 4, 5], [1, 5, 5]]]),
        "rows": generator.integers(2, size=(SAMPLES, 12)),
    }
    for name in CALLS:
        for what, values in answer(meteors, lime_base, stored, name).items():
            stored[f"{name}: {what}"] = values
    of_runs = runs(meteors, lime_base, stored, RUNS)
    stored["runs: mean"], stored["runs: deviation"] = of_runs.mean(0), of_runs.std(0, ddof=1)
    np.savez_compressed(NUMBERS, **stored)
    print(f"{len(CALLS)} calls, {NUMBERS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
