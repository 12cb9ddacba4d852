"""Models and images on a CUDA device: the numbers of the CPU, and nothing taken from the wrong stream or mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from meteors_c import HSI, attr, options
from meteors_c.models import ExplainableModel, SkLearnLinearRegression

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

SHAPE = (12, 20, 18)
TARGET = 1


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(3)
    return (
        nn.Sequential(
            nn.Conv2d(SHAPE[0], 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
        )
        .to(dtype)
        .eval()
    )  # fmt: skip


def hsi(device: str, dtype: torch.dtype = torch.float64) -> HSI:
    image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return HSI(image=image.to(device, dtype), wavelengths=torch.linspace(400, 900, SHAPE[0]))


def squares(side: int = 6) -> torch.Tensor:
    rows, columns = torch.arange(SHAPE[1])[:, None] // side, torch.arange(SHAPE[2]) // side
    return (rows * 10 + columns)[None]


METHODS: dict[str, Callable[[ExplainableModel, HSI], Any]] = {
    "Saliency": lambda m, x: attr.Saliency(m).attribute(x, TARGET),
    "InputXGradient": lambda m, x: attr.InputXGradient(m).attribute(x, TARGET),
    "IntegratedGradients": lambda m, x: attr.IntegratedGradients(m).attribute(x, 0, TARGET, n_steps=30),
    "boxes": lambda m, x: attr.Occlusion(m).attribute(x, TARGET, (4, 5, 5), (4, 3, 3), 0),
    "pixels": lambda m, x: attr.Occlusion(m).get_spatial_attributes(x, TARGET, (5, 4), (2, 2), 0),
    "bands": lambda m, x: attr.Occlusion(m).get_spectral_attributes(x, TARGET, 3, 2, 0),
    "HyperNoiseTunnel": lambda m, x: attr.HyperNoiseTunnel(attr.Saliency(m)).attribute(
        x, torch.zeros_like(x.image), TARGET, n_samples=12
    ),
    "NoiseTunnel": lambda m, x: attr.NoiseTunnel(attr.InputXGradient(m)).attribute(x, TARGET, n_samples=4),
    "Lime": lambda m, x: attr.Lime(m, SkLearnLinearRegression()).get_spatial_attributes(
        x, squares(), TARGET, n_samples=60, baseline=0
    ),
    "KernelShap": lambda m, x: attr.KernelShap(m).get_spatial_attributes(x, squares(), TARGET, n_samples=60),
    "FeatureAblation": lambda m, x: attr.FeatureAblation(m).attribute(x, TARGET, squares()[0]),
}


def found(method: str, model: Any, image: HSI, shortcuts: bool | str = True) -> Any:
    torch.manual_seed(1)
    with options(shortcuts=shortcuts):
        return METHODS[method](ExplainableModel(model, "regression"), image)


def apart(a: Any, b: Any) -> float:
    a, b = a.attributes.cpu().double(), b.attributes.cpu().double()
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("shortcuts", [False, True, "always"])
@pytest.mark.parametrize("method", METHODS)
def test_numbers_of_the_cpu(method: str, shortcuts: bool | str) -> None:
    there = found(method, network().cuda(), hsi("cuda"), shortcuts)
    here = found(method, network(), hsi("cpu"), False)
    assert there.attributes.is_cuda
    assert apart(there, here) <= 1e-10
    assert shortcuts != "always" or method in ("Saliency", "InputXGradient", "NoiseTunnel") or there.report.shortcut


@pytest.mark.parametrize("shortcuts", [False, "always"])
@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"NoiseTunnel"}))  # whose noise is another one in float32
def test_float32_without_tf32(method: str, shortcuts: bool | str) -> None:
    exact = found(method, network(), hsi("cpu"), False)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        there = found(method, network(torch.float32).cuda(), hsi("cuda", torch.float32), shortcuts)
    assert apart(there, exact) <= 2e-5


@pytest.mark.parametrize("method", ["IntegratedGradients", "pixels", "bands", "Lime"])
def test_the_callers_stream(method: str) -> None:
    model, image = network().cuda(), hsi("cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # what is on another stream does not wait for this
        there = found(method, model, image, "always")
    torch.cuda.synchronize()
    assert apart(there, found(method, network(), hsi("cpu"), False)) <= 1e-10


class Autocast(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return self.body(x).float()


@pytest.mark.parametrize("method", ["IntegratedGradients", "pixels", "bands", "Lime"])
def test_autocast_in_the_model(method: str) -> None:
    """A program replays the casts; half precision leaves three digits."""
    model, image = Autocast(network(torch.float32)).cuda(), hsi("cuda", torch.float32)
    assert apart(found(method, model, image, "always"), found(method, model, image, False)) <= 0.1


@pytest.mark.parametrize("method", ["Saliency", "IntegratedGradients", "pixels", "bands", "Lime"])
def test_scripted_models(method: str) -> None:
    model = torch.jit.trace(network().cuda(), hsi("cuda").image[None])
    there = found(method, model, hsi("cuda"), "always")
    assert apart(there, found(method, network(), hsi("cpu"), False)) <= 1e-10


@pytest.mark.parametrize("method", ["IntegratedGradients", "pixels"])
def test_numbers_read_from_the_device(method: str) -> None:
    """What Python reads of values on a device can't be replayed."""

    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = torch.from_numpy(x.detach().mean((1, 2, 3)).cpu().numpy()).to(x)
            return self.body(x) * scale[:, None]

    there = found(method, Read().cuda(), hsi("cuda"), "always")
    assert there.report.shortcut is None
    assert apart(there, found(method, Read(), hsi("cpu"), False)) <= 1e-10


def test_a_list_of_images() -> None:
    images = [hsi("cuda"), HSI(image=hsi("cuda").image.flip(1), wavelengths=hsi("cuda").wavelengths)]
    model = ExplainableModel(network().cuda(), "regression")
    with options(shortcuts="always"):
        both = attr.IntegratedGradients(model).attribute(images, 0, [0, TARGET], n_steps=20)
    with options(shortcuts=False):
        alone = [
            attr.IntegratedGradients(model).attribute(image, 0, target, n_steps=20)
            for image, target in zip(images, [0, TARGET], strict=True)
        ]
    assert all(apart(a, b) <= 1e-10 for a, b in zip(both, alone, strict=True))
