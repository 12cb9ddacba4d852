"""What makes two runs the same: the second start of one must not go on with another."""

from __future__ import annotations

import copy
import functools
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from meteors_c import HSI, attr
from meteors_c.models import ExplainableModel, SkLearnLasso
from meteors_c.scenes._said import said
from tests.scenes.models import BANDS, WAVELENGTHS, field, patch_model, scene

ROOT = Path(__file__).parents[2]
FACTOR = 2.0


def closure(factor: float) -> Callable[..., torch.Tensor]:
    def model(x: torch.Tensor) -> torch.Tensor:
        return factor * x.flatten(1).sum(1, keepdim=True)

    return model


def default(factor: float) -> Callable[..., torch.Tensor]:
    def model(x: torch.Tensor, by: float = factor) -> torch.Tensor:
        return by * x.flatten(1).sum(1, keepdim=True)

    return model


def keyword(factor: float) -> Callable[..., torch.Tensor]:
    def model(x: torch.Tensor, *, by: float = factor) -> torch.Tensor:
        return by * x.flatten(1).sum(1, keepdim=True)

    return model


def scaled(x: torch.Tensor, by: float) -> torch.Tensor:
    return by * x.flatten(1).sum(1, keepdim=True)


def partial(factor: float) -> Callable[..., torch.Tensor]:
    return functools.partial(scaled, by=factor)


def nested(factor: float) -> Callable[..., torch.Tensor]:
    inner = {"parts": [closure(factor), None]}
    return lambda x: inner["parts"][0](x)  # type: ignore[misc]


class Scaling:
    """A callable object, whose attribute has no place in a dict."""

    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, self.factor)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, self.factor)


class Network(nn.Module):
    """A factor that is no parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.flat = nn.Flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.flat(x).sum(1, keepdim=True)


def slope(factor: float) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.LeakyReLU(factor), nn.Linear(BANDS * 9, 1)).eval()


def hooked(factor: float) -> nn.Module:
    network = Network(1.0)
    network.register_forward_hook(lambda module, args, output: factor * output)
    return network.eval()


def scripted(factor: float) -> Any:
    return torch.jit.script(Network(factor).eval())


def frozen(factor: float) -> Any:
    return torch.jit.freeze(scripted(factor))


def exported(factor: float) -> Any:
    batch = torch.zeros(2, BANDS, 3, 3)
    shapes = ({0: torch.export.Dim("n", min=1)},)
    return torch.export.export(Network(factor).eval(), (batch,), dynamic_shapes=shapes).module()


KINDS: dict[str, Callable[[float], Any]] = {
    "closure": closure,
    "default": default,
    "keyword default": keyword,
    "partial": partial,
    "nested": nested,
    "object": Scaling,
    "method": lambda factor: Scaling(factor).apply,
    "attribute": lambda factor: Network(factor).eval(),
    "constant of a layer": slope,
    "hook": hooked,
    "method of a network": lambda factor: Network(factor).eval().forward,
    "wrapped network": lambda factor: (lambda network: lambda x: network(x))(Network(factor).eval()),
    "cached": lambda factor: functools.lru_cache(closure(factor)),
    "script": scripted,
    "frozen script": frozen,
    "exported": exported,
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_differ_by_all_that_they_hold(kind: str) -> None:
    make = KINDS[kind]

    def told(model: Any, post: Any = None) -> str:
        opaque: list[str] = []
        text = said(attr.Saliency(ExplainableModel(model, "segmentation" if post else "regression", post)), opaque)
        assert not opaque
        return text

    assert told(make(0.2)) == told(make(0.2)) != told(make(0.3))
    if kind not in ("cached", "object", "exported", "script", "frozen script", "hook"):
        assert told(nn.Flatten(), make(0.2)) == told(nn.Flatten(), make(0.2)) != told(nn.Flatten(), make(0.3))


def test_globals_and_code_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_global(x: torch.Tensor) -> torch.Tensor:
        return FACTOR * x

    before = said(by_global)
    assert said(by_global) == before
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert said(by_global) != before
    bodies = []
    for body in ("x + 1", "x - 1", "x + 1"):
        space: dict[str, Any] = {"__name__": __name__}
        exec(
            f"def model(x):\n    return {body}\n\nclass Model:\n    def __call__(self, x):\n        return {body}",
            space,
        )
        bodies.append((said(space["model"]), said(space["Model"]())))
    for one, other, again in zip(*bodies, strict=True):
        assert one == again != other


def flat(value: float) -> HSI:
    return HSI(image=torch.full((BANDS, 3, 3), value), wavelengths=WAVELENGTHS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a", "b"}, {"a", "c"}),
        (torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)),
        (torch.zeros(2), torch.zeros(1, 2)),
        (np.array([1, None]), np.array([2, None])),
        (np.ma.MaskedArray([1, 2], [True, False]), np.ma.MaskedArray([1, 2], [False, True])),
        (attr.AsIs(1), attr.AsIs(2)),
        (attr.Blur(1.0), attr.Blur(2.0)),
        (SkLearnLasso(alpha=0.1), SkLearnLasso(alpha=0.2)),
        (torch.float32, torch.float64),
        (re.compile("a"), re.compile("b")),
        (math.sin, math.cos),
        (torch.relu, torch.tanh),
        (np.sin, np.cos),
        ([1, [2]], [1, [3]]),
        ("a" * 500 + "b", "a" * 500 + "c"),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (flat(0.0), flat(1.0)),
        (nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()}), nn.ModuleDict({"b": nn.Tanh(), "a": nn.ReLU()})),
    ],
)  # fmt: skip
def test_values_differ(one: Any, other: Any) -> None:
    assert said(one) == said(copy.deepcopy(one)) != said(other)


def test_what_holds_itself_has_an_end() -> None:
    def ring(value: int) -> list[Any]:
        made: list[Any] = [value]
        made.append(made)
        return made

    assert said(ring(1)) == said(ring(1)) != said(ring(2))
    parent, child = nn.Module(), nn.Module()
    parent.child = child
    object.__setattr__(child, "parent", parent)
    assert said(parent)


def test_words_are_the_same_in_every_process() -> None:
    code = (
        "import torch\nfrom tests.scenes import test_same_run as t\nfrom meteors_c.scenes._said import said\n"
        "print([said(make(0.2)) for make in t.KINDS.values()], said({'a', 'b', 'c'}))"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert texts[0] == texts[1]


# ---------------------------------------------------------------- starts


def explain(model: Any, out: Path, array: Any = None, explainer: Any = attr.Saliency, **arguments: Any) -> Any:
    given = {"window": 3, "target": 0, **arguments}
    model = model if isinstance(model, ExplainableModel) else ExplainableModel(model, "regression")
    return attr.explain_scene(explainer(model), scene(field(6, 5)) if array is None else array, out=out, **given)


@pytest.mark.parametrize("kind", ["closure", "default", "partial", "attribute"])
def test_a_second_start_of_another_function_is_refused(kind: str, tmp_path: Path) -> None:
    first = explain(KINDS[kind](2.0), tmp_path / "a.zarr")
    again = explain(KINDS[kind](2.0), tmp_path / "a.zarr")
    np.testing.assert_array_equal(first["map"], again["map"])
    with pytest.raises(FileExistsError, match="explainer"):
        explain(KINDS[kind](3.0), tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"baseline": 0.0}, {"baseline": 0.5}),
        ({"baseline": np.zeros(BANDS)}, {"baseline": np.ones(BANDS)}),
        ({"baseline": 0.0}, {"baseline": "mean"}),
        ({"baseline": np.zeros((BANDS, 3, 3))}, {"baseline": np.eye(3)[None].repeat(BANDS, 0)}),
        ({"n_steps": 5}, {"n_steps": 6}),
        ({"stride": 1}, {"stride": 2}),
        ({}, {"method": "riemann_trapezoid"}),
    ],
)
def test_other_arguments_of_the_method_are_refused(one: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> None:
    model, out = patch_model(3), tmp_path / "a.zarr"
    explain(model, out, explainer=attr.IntegratedGradients, **one)
    explain(model, out, explainer=attr.IntegratedGradients, **one)
    with pytest.raises(FileExistsError, match="another"):
        explain(model, out, explainer=attr.IntegratedGradients, **other)


def test_the_order_of_arguments_does_not_count(tmp_path: Path) -> None:
    arguments = {"n_steps": 3, "baseline": 0.5}
    for given in (arguments, dict(reversed(arguments.items()))):
        explain(patch_model(3), tmp_path / "a.zarr", explainer=attr.IntegratedGradients, **given)


def test_one_explainer_goes_on_with_its_run(tmp_path: Path) -> None:
    """What a call leaves in an explainer and its model is no difference."""
    model = ExplainableModel(
        nn.Sequential(nn.Flatten(), nn.Linear(BANDS * 9, 2)).double().eval(), "segmentation", lambda y: y
    )
    mask = {"band_mask": torch.arange(BANDS), "band_names": {str(band): band for band in range(BANDS)}}
    explainer = attr.Lime(model, SkLearnLasso(alpha=0.01))
    for _ in range(2):
        attr.explain_scene(
            explainer, scene(field(4, 4)), window=3, target=0, out=tmp_path / "a.zarr", n_samples=8,
            attribution_type="spectral", **mask,
        )  # fmt: skip


def test_scenes_in_memory_differ_by_every_value(tmp_path: Path) -> None:
    values = field(6, 5)
    explain(patch_model(3), tmp_path / "a.zarr", scene(values))
    explain(patch_model(3), tmp_path / "a.zarr", scene(values.copy()))
    values[2, 1, 3] += 1e-9
    with pytest.raises(FileExistsError, match="scene"):
        explain(patch_model(3), tmp_path / "a.zarr", scene(values))


def test_scenes_elsewhere_differ_by_some(tmp_path: Path) -> None:
    values = field(6, 5)
    explain(patch_model(3), tmp_path / "a.zarr", scene(values).chunk())
    explain(patch_model(3), tmp_path / "a.zarr", scene(values).chunk())
    values[:, 3, 2] += 1
    with pytest.raises(FileExistsError, match="scene"):
        explain(patch_model(3), tmp_path / "a.zarr", scene(values).chunk())


def test_what_cannot_be_told_is_not_gone_on_with(tmp_path: Path) -> None:
    numbers = (float(i) for i in range(3))  # a generator: what it will give is not to be seen

    def model(x: torch.Tensor) -> torch.Tensor:
        assert numbers is not None
        return scaled(x, 2.0)

    lock = threading.Lock()

    def locked(x: torch.Tensor) -> torch.Tensor:
        with lock:
            return scaled(x, 2.0)

    explain(locked, tmp_path / "b.zarr")
    explain(locked, tmp_path / "b.zarr")
    with pytest.warns(UserWarning, match="no second start.*generator"):
        explain(model, tmp_path / "a.zarr")
    with pytest.raises(FileExistsError, match="generator"):
        explain(model, tmp_path / "a.zarr")
