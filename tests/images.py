"""Images of the tests of HSI."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from meteors_c.hsi import HSI

WAVELENGTHS = [462.0, 500.0, 530.0, 550.0, 580.0, 600.0, 640.0, 660.0, 700.0, 850.0]
ORIENTATIONS = ["".join(letters) for letters in itertools.permutations("CHW")]
DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.uint64,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]


def image() -> torch.Tensor:
    """Random values with a corner of zeros, (10, 4, 5)."""
    values = torch.rand(10, 4, 5) + 0.1
    values[:, :2, :2] = 0
    return values


def permuted(tensor: torch.Tensor, orientation: str) -> torch.Tensor:
    return tensor.permute(["CHW".index(letter) for letter in orientation])


def make(**changes: Any) -> HSI:
    return HSI(**{"image": image(), "wavelengths": WAVELENGTHS, **changes})
