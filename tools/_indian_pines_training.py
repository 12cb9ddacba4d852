"""What the scripts that train networks on Indian Pines share: standardising, scoring, and keeping weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from meteors_c.datasets.indian_pines import IndianPines

FOLDER = Path(__file__).parents[1] / "meteors_c" / "datasets"


def statistics(scene: IndianPines) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over the training pixels alone, (200, 1, 1)."""
    pixels = scene.hsi.image[:, scene.training].double()
    return pixels.mean(1)[:, None, None], pixels.std(1)[:, None, None]


def fold(stem: nn.Conv2d, mean: Tensor, unit: Tensor) -> None:
    """Let a 1 x 1 convolution that was trained on standardised bands take them as they are."""
    with torch.no_grad():
        weight = stem.weight.double() / unit
        stem.bias.copy_(stem.bias.double() - (weight * mean).sum(dim=(1, 2, 3)))
        stem.weight.copy_(weight)


def keep(model: nn.Module, name: str, exact: Sequence[str] = ()) -> int:
    """Round weights to float16, but for those whose name begins with one of `exact`, and write them; gives bytes.

    The model is left with the rounded weights: what is measured afterwards is what is kept.
    """
    state = {}
    for key, value in model.state_dict().items():
        state[key] = value.numpy() if key.startswith(tuple(exact)) else value.half().numpy()
        value.copy_(torch.from_numpy(state[key]).float())
    np.savez_compressed(FOLDER / name, **state)
    return (FOLDER / name).stat().st_size


def score(predicted: Tensor, known: Tensor, seen: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy over all pixels, over pixels of classes that training has seen, and per class, rounded.

    `predicted` and `known` are labels of pixels; `seen` are the labels of the training pixels.
    """
    right = predicted == known
    labels = sorted(set(known.tolist()))
    trained = set(seen.tolist())
    per_class = {label: right[known == label].double().mean().item() for label in labels if label in trained}
    of_seen = torch.isin(known, torch.tensor(sorted(trained), dtype=known.dtype))
    return {
        "pixels": len(known),
        "overall": round(right.double().mean().item(), 4),
        "overall_of_classes_in_training": round(right[of_seen].double().mean().item(), 4),
        "average_per_class": round(sum(per_class.values()) / len(per_class), 4),
        "per_class": {names[label]: round(value, 4) for label, value in per_class.items()},
        "not_in_training": [names[label] for label in labels if label not in trained],
    }


def read(name: str) -> dict[str, Any]:
    """What was written before."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def write(name: str, record: dict[str, Any]) -> None:
    """Write what was found as JSON beside the weights, and print it."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    (FOLDER / name).write_text(text + "\n", encoding="utf-8")
    print(text)
