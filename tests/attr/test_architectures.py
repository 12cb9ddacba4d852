"""Random architectures: every method gives the plain path's numbers through whatever shortcut is taken.

`METEORS_C_ARCHITECTURES` says which seeds run: a number of them, or a range such as 317:318 for one;
`METEORS_C_DEVICE` where their models and images lie.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from meteors_c import HSI, attr, options
from meteors_c.models import ExplainableModel
from tests.architecture_rules import RULES, with_rule
from tests.architectures import Architecture, random_architecture

FIRST, _, LAST = ("0:" + os.environ.get("METEORS_C_ARCHITECTURES", "520")).rpartition(":")
DEVICE = os.environ.get("METEORS_C_DEVICE", "cpu")
SEEDS = range(int(FIRST.rpartition(":")[2]), int(LAST))
BLOCK = 20
TARGET = 1


class Scene:
    """An image, a baseline and superpixels for an architecture.

    The baseline is random, so that no function of a value stands exactly at its kink where everything is replaced.
    """

    def __init__(self, shape: tuple[int, int, int], seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.shape = shape
        self.hsi = HSI(image=self.rand(*shape).to(DEVICE), wavelengths=torch.linspace(400, 900, shape[0]))
        self.baseline = 0.3 * self.rand(*shape).to(DEVICE)
        self.patches, self.segments = self.superpixels(4), self.superpixels(2)
        least = [-(-side // 5) for side in shape]  # few windows
        self.window = tuple(low + self.below(2) for low in least)
        self.strides = tuple(max(low, size - self.below(2)) for low, size in zip(least, self.window, strict=True))

    def superpixels(self, count: int) -> torch.Tensor:
        """Rectangles, so many each way, and one of a single pixel."""
        _, rows, columns = self.shape
        row, column = torch.arange(rows)[:, None], torch.arange(columns)
        ids = count * (count * row // rows) + count * column // columns
        ids[self.below(rows), self.below(columns)] = count * count
        return ids[None]

    def rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.random, dtype=torch.float64)

    def below(self, end: int) -> int:
        return int(torch.randint(end, (), generator=self.random))


def architecture_on_device(seed: int) -> Architecture:
    architecture = random_architecture(seed)
    architecture.module.to(DEVICE)
    return architecture


def integrated_gradients(model: Any, scene: Scene) -> Any:
    return attr.IntegratedGradients(model).attribute(scene.hsi, scene.baseline, TARGET, n_steps=17)


def boxes(model: Any, scene: Scene) -> Any:
    return attr.Occlusion(model).attribute(scene.hsi, TARGET, scene.window, scene.strides, scene.baseline)


def spatial(model: Any, scene: Scene) -> Any:
    return attr.Occlusion(model).get_spatial_attributes(
        scene.hsi, TARGET, scene.window[1:], scene.strides[1:], scene.baseline
    )


def spectral(model: Any, scene: Scene) -> Any:
    return attr.Occlusion(model).get_spectral_attributes(
        scene.hsi, TARGET, scene.window[0], scene.strides[0], scene.baseline
    )


def noise_tunnel(model: Any, scene: Scene) -> Any:
    return attr.HyperNoiseTunnel(attr.Saliency(model)).attribute(scene.hsi, scene.baseline, TARGET, n_samples=17)


def lime(model: Any, scene: Scene) -> Any:
    return attr.Lime(model).get_spatial_attributes(
        scene.hsi, scene.patches, TARGET, n_samples=24, baseline=scene.baseline
    )


def kernel_shap(model: Any, scene: Scene) -> Any:
    return attr.KernelShap(model).get_spatial_attributes(
        scene.hsi, scene.segments, TARGET, n_samples=20, baseline=scene.baseline
    )


def feature_ablation(model: Any, scene: Scene) -> Any:
    return attr.FeatureAblation(model).attribute(scene.hsi, TARGET, scene.patches[0], scene.baseline)


METHODS: list[Callable[[Any, Scene], Any]] = [
    integrated_gradients,
    boxes,
    noise_tunnel,
    spatial,
    lime,
    spectral,
    kernel_shap,
    feature_ablation,
]
# At least this share of architectures is taken through a shortcut, for each method.
FLOOR = {
    "integrated_gradients": 0.8,
    "boxes": 0.8,
    "spatial": 0.8,
    "spectral": 0.75,
    "noise_tunnel": 0.15,
    "lime": 0.4,
    "kernel_shap": 0.4,
    "feature_ablation": 0.4,
}
tried: Counter[str] = Counter()
taken: Counter[str] = Counter()
jumped: Counter[str] = Counter()


def result(method: Callable[[Any, Scene], Any], network: torch.nn.Module, scene: Scene, shortcuts: bool | str) -> Any:
    torch.manual_seed(1)
    recurrent = DEVICE != "cpu" and any(isinstance(layer, torch.nn.RNNBase) for layer in network.modules())
    with (
        options(shortcuts=shortcuts),
        torch.backends.cudnn.flags(enabled=not recurrent),  # cuDNN has gradients of those in training mode only
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # samples that influence each other, say
        return method(ExplainableModel(network, "regression"), scene)


def difference(fast: Any, plain: Any, output: float) -> float:
    """The largest difference, over the largest attribution.

    Attributions that are tiny beside the output have fewer digits: no more than its rounding leaves them.
    """
    apart, largest = (fast.attributes - plain.attributes).abs().max().item(), plain.attributes.abs().max().item()
    return apart / max(largest, 1e-3 * abs(output)) if apart else 0.0


def output_of(network: torch.nn.Module, scene: Scene) -> float:
    with torch.no_grad():
        return network(scene.hsi.image[None])[0, TARGET].item()


def faults(seed: int, architecture: Architecture, method: Callable[[Any, Scene], Any]) -> list[str]:
    """What is wrong with an architecture under a method, in words; nothing if the list is empty."""
    scene, name = Scene(architecture.shape, seed), method.__name__
    plain = result(method, architecture.module, scene, False)
    try:
        fast = result(method, architecture.module, scene, "always")
    except Exception as error:
        return [f"seed {seed}, {name}: {error!r}\n{architecture.description}"]
    tried[name] += 1
    taken[name] += fast.report.shortcut is not None
    found: list[str] = []
    apart = difference(fast, plain, output_of(architecture.module, scene))
    if not apart <= 1e-10 and not jumps(architecture, method, seed, plain):
        found.append(f"{apart:.1e} apart")
    if (fast.report.shortcut is None) == (fast.report.shortcut_declined is None):
        found.append("neither taken nor declined")
    return [f"seed {seed}, {name}: {', '.join(found)}\n{fast.report}\n{architecture.description}"] if found else []


def jumps(architecture: Architecture, method: Callable[[Any, Scene], Any], seed: int, plain: Any) -> bool:
    """Whether the plain path's own results differ where its inputs do by rounding: equal values are told apart."""
    for trial in range(10):
        scene, random = Scene(architecture.shape, seed), torch.Generator().manual_seed(trial)
        moves = [torch.randint(-4, 5, scene.shape, generator=random) for _ in range(2)]
        rounding = [1 + move.double().to(DEVICE) * 2.0**-52 for move in moves]
        scene.hsi = HSI(image=scene.hsi.image * rounding[0], wavelengths=scene.hsi.wavelengths)
        scene.baseline = scene.baseline * rounding[1]
        other = result(method, architecture.module, scene, False)
        if difference(other, plain, output_of(architecture.module, scene)) > 1e-10:
            jumped[method.__name__] += 1
            return True
    return False


def blocks() -> list[range]:
    return [SEEDS[start : start + BLOCK] for start in range(0, len(SEEDS), BLOCK)]


def methods_of(seed: int) -> list[Callable[[Any, Scene], Any]]:
    return [METHODS[(2 * seed + i) % len(METHODS)] for i in range(2)]


@pytest.mark.parametrize("seeds", blocks(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_shortcuts_give_the_numbers_of_the_plain_path(seeds: range) -> None:
    found = []
    for seed in seeds:
        architecture = architecture_on_device(seed)
        for method in methods_of(seed):
            found += faults(seed, architecture, method)
    assert not found, "\n\n".join(found)


def test_the_same_seed_is_the_same_network() -> None:
    images = torch.rand(2, *random_architecture(7).shape, dtype=torch.float64)
    once, again = random_architecture(7), random_architecture(7)
    assert once.description == again.description
    assert torch.equal(once.module(images), again.module(images))
    assert random_architecture(8).description != once.description


def test_shortcuts_are_taken() -> None:
    """Declining everything would pass all tests above."""
    if sum(tried.values()) < 1000:
        pytest.skip("too few architectures for a share")
    shares = {name: taken[name] / tried[name] for name in FLOOR}
    assert all(shares[name] >= FLOOR[name] for name in FLOOR), shares
    assert sum(jumped.values()) <= 1e-3 * sum(tried.values()), jumped


def ruled(seed: int) -> list[tuple[str, Callable[[Any, Scene], Any]]]:
    """Two rules and the methods that they are tried with; over all seeds, each rule meets each method."""
    names = list(RULES)
    return [(names[(seed + i) % len(names)], METHODS[(seed // len(names) + i) % len(METHODS)]) for i in range(2)]


@pytest.mark.parametrize(
    "seeds",
    [seeds for seeds in blocks() if seeds.start % 100 == 0],
    ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}",
)
def test_rules_make_no_difference(seeds: range) -> None:
    """Gates on the input, decisions of Python, random operators and state inside an architecture."""
    found = []
    for seed in seeds:
        for name, method in ruled(seed):
            architecture, rule = architecture_on_device(seed), RULES[name]
            scene = Scene(architecture.shape, seed)
            network = with_rule(architecture.module, rule)
            fast = result(method, network, scene, "always")
            plain = result(method, with_rule(architecture.module, rule), scene, False)
            apart = difference(fast, plain, output_of(architecture.module, scene)) if rule.repeats else 0
            if not apart <= 1e-10:
                found.append(f"seed {seed}, {name}, {method.__name__}: {apart:.1e}\n{fast.report}")
            if rule.declined and fast.report.shortcut is not None:
                found.append(f"seed {seed}, {name}, {method.__name__}: taken\n{fast.report}")
    assert not found, "\n\n".join(found)
