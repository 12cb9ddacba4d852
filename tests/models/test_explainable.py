"""ExplainableModel: what it is made of, and what it does to the model (nothing)."""

from __future__ import annotations

import functools
import gc
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c import _native
from meteors_c.attr import InputXGradient, IntegratedGradients, Saliency
from meteors_c.models import ExplainableModel
from meteors_c.utils import agg_segmentation_postprocessing
from tests.toys import Segmenter, convolutional, cube, explainable, smooth

# ---------------------------------------------------------------- construction


@pytest.mark.parametrize("problem_type", ["regression", "Classification", "REGRESSION"])
def test_the_problem_type_is_lower_case(problem_type: str) -> None:
    net = smooth()
    model = ExplainableModel(net, problem_type)
    assert model.problem_type == problem_type.lower()
    assert model.forward_func is net
    assert not model.postprocessing_segmentation_output
    assert ExplainableModel.validate_problem_type(problem_type) == problem_type.lower()
    assert set(ExplainableModel.VALID_PROBLEM_TYPES) == {"classification", "regression", "segmentation"}


@pytest.mark.parametrize("problem_type", ["", "clustering", "regression "])
def test_unknown_problem_types(problem_type: str) -> None:
    with pytest.raises(ValueError, match=r"problem_type.*classification.*regression.*segmentation"):
        ExplainableModel(smooth(), problem_type)


@pytest.mark.parametrize("problem_type", [None, 1, b"regression", ["regression"]])
def test_problem_types_that_are_no_strings(problem_type: Any) -> None:
    with pytest.raises(TypeError, match=rf"problem_type.*{type(problem_type).__name__}"):
        ExplainableModel(smooth(), problem_type)


@pytest.mark.parametrize("problem_type", ["segmentation", "Segmentation"])
def test_segmentation_needs_a_postprocessing(problem_type: str) -> None:
    with pytest.raises(ValueError, match="postprocessing_output"):
        ExplainableModel(Segmenter(), problem_type)


def test_segmentation_is_the_composition() -> None:
    net, after = Segmenter(), agg_segmentation_postprocessing(soft_labels=True, classes_numb=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ExplainableModel(net, "segmentation", after)
    x = cube().image[None]
    assert model.postprocessing_segmentation_output
    assert torch.equal(model.forward_func(x), after(net(x)))
    assert torch.equal(model(x), after(net(x)))
    assert model.module is net


def test_postprocessing_of_other_problems_warns_and_is_applied() -> None:
    net = smooth()
    with pytest.warns(UserWarning, match="postprocessing_output") as caught:
        model = ExplainableModel(net, "regression", lambda y: y * 2)
    assert caught[0].filename == __file__
    x = cube().image[None]
    assert torch.equal(model(x), net(x) * 2)


def test_calling_applies_the_function_with_its_gradient() -> None:
    x = cube().image[None].requires_grad_()
    assert ExplainableModel(smooth(), "regression")(x).requires_grad


def test_the_engine_calls_the_object_given() -> None:
    net = smooth(1)
    model = ExplainableModel(net, "regression")
    model.forward_func = lambda x: 3 * net(x)
    found = Saliency(model).attribute(cube()).attributes
    torch.testing.assert_close(found, 3 * Saliency(explainable(net)).attribute(cube()).attributes)


# ---------------------------------------------------------------- devices


def test_segmentation_models_move_too() -> None:
    net = Segmenter()
    model = ExplainableModel(net, "segmentation", agg_segmentation_postprocessing())
    assert model.device == torch.device("cpu")
    assert model.to("meta") is model
    assert next(net.parameters()).is_meta
    assert model.device == torch.device("meta")


@pytest.mark.parametrize("wrap", [lambda net: functools.partial(net, 1), lambda net: net.forward])
def test_the_module_is_found_in_partials_and_methods(wrap: Any) -> None:
    net = smooth()
    assert ExplainableModel(wrap(net), "regression").module is net


def test_what_has_no_to_warns() -> None:
    model = ExplainableModel(lambda x: x, "regression")
    with pytest.warns(UserWarning, match="function"):
        assert model.to("cpu") is model
    assert model.device is None
    assert model.module is None


# ---------------------------------------------------------------- array models


def test_array_models_have_outputs_but_no_gradient() -> None:
    model = ExplainableModel(lambda x: x.sum(axis=(1, 2, 3)), "regression", array_input=True)
    x = np.ones((2, 5, 4, 3))
    assert model(x).tolist() == [60, 60]
    for method in (Saliency, InputXGradient, IntegratedGradients):
        with pytest.raises(RuntimeError, match="differentiated"):
            method(model).attribute(cube())


# ---------------------------------------------------------------- the model is left as it is

METHODS = [Saliency, InputXGradient, IntegratedGradients]


def state(model: nn.Module) -> list[Any]:
    return [
        *[(name, p.requires_grad, p.grad, p._version, p.detach().clone()) for name, p in model.named_parameters()],
        *[(name, b._version, b.clone()) for name, b in model.named_buffers()],
        *[(name, m.training, sorted(vars(m))) for name, m in model.named_modules()],
    ]


def assert_same(found: Any, wanted: Any) -> None:
    for one, other in zip(found, wanted, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b


class Raises(nn.Module):
    """Raises at its third call: the second batch, behind the sample of the first that is asked alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutional()
        self.calls: list[int] = []
        self.body[0].weight.requires_grad_(False)
        self.body[0].bias.grad = torch.ones(6, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(x))
        if len(self.calls) > 2:
            raise ArithmeticError("on purpose")
        return self.body(x)


@pytest.mark.parametrize("native", [True, False])
def test_parameters_keep_their_gradients_and_flags(native: bool) -> None:
    net = nn.Sequential(nn.BatchNorm2d(5).double(), convolutional()).eval()
    net[1][0].weight.requires_grad_(False)
    net[1][2].weight.grad = torch.full_like(net[1][2].weight, 7.0)
    before = state(net)
    for method in METHODS:
        with mt.options(native=native):
            method(explainable(net)).attribute([cube(0), cube(1)], target=0)
        assert_same(state(net), before)


@pytest.mark.parametrize("native", [True, False])
def test_also_when_the_model_raises(native: bool) -> None:
    net = Raises().eval()
    before = state(net)
    with mt.options(native=native, shortcuts=False), pytest.raises(ArithmeticError, match="on purpose"):
        IntegratedGradients(explainable(net)).attribute(cube(), target=0, internal_batch_size=2)
    assert net.calls == ([2, 1, 2] if native else [2, 1, 2, 2])  # what it says to company is no error yet
    assert_same(state(net), before)
    net.calls.clear()
    assert Saliency(explainable(net)).attribute(cube(), target=0).attributes.any()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_train_mode_warns_once_and_stays(method: Any, native: bool) -> None:
    net = nn.Sequential(convolutional(), nn.Dropout(0.5)).train()
    model = ExplainableModel(net, "regression")
    with mt.options(native=native):
        with pytest.warns(UserWarning, match="train mode") as caught:
            method(model).attribute(cube(), target=0)
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            method(model).attribute(cube(), target=0)
    assert all(module.training for module in net.modules())


def test_a_part_in_train_mode_warns() -> None:
    net = nn.Sequential(convolutional(), nn.Dropout(0.5)).eval()
    net[1].train()
    with pytest.warns(UserWarning, match="train mode"):
        Saliency(ExplainableModel(net, "regression")).attribute(cube(), target=0)
    assert not net.training


def test_every_model_in_train_mode_warns() -> None:
    """Also one that takes the place in memory of one that is gone."""
    for _ in range(5):
        net = convolutional().train()
        with pytest.warns(UserWarning, match="train mode"):
            Saliency(ExplainableModel(net, "regression")).attribute(cube(), target=0)
        del net
        gc.collect()


def test_models_are_not_kept_alive() -> None:
    net = smooth()
    watch = weakref.ref(net)
    found = IntegratedGradients(explainable(net)).attribute(cube(), target=0)
    del net
    gc.collect()
    assert found.report is not None
    assert watch() is None


# ---------------------------------------------------------------- without the torch bridge


def test_without_the_bridge_models_run_through_python_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer, images = IntegratedGradients(explainable(convolutional())), [cube(0), cube(1)]
    wanted = explainer.attribute(images, target=[0, 1])
    monkeypatch.setattr(_native, "_load_bridge", lambda: (None, "it was built for another torch"))
    _native.bridge.cache_clear()
    try:
        with pytest.warns(UserWarning, match="built for another torch.*Python calls") as caught:
            found = explainer.attribute(images, target=[0, 1])
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            explainer.attribute(images, target=0)
    finally:
        _native.bridge.cache_clear()
    for ours, native in zip(found, wanted, strict=True):
        assert ours.report.model == "torch through Python calls"
        assert ours.report.shortcut is None
        torch.testing.assert_close(ours.attributes, native.attributes, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"meteors_c was built for torch 1.0.0\0", ["1.0.0", torch.__version__, "reinstall"]),
        (b"no sentence", ["unknown version", torch.__version__]),
    ],
)
def test_a_bridge_for_another_torch_is_not_loaded(
    content: bytes, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "_torch.so"
    fake.write_bytes(b"\x7fELF..." + content)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(origin=str(fake)))
    module, why = _native._load_bridge()
    assert module is None
    assert all(word in why for word in words)


@pytest.mark.parametrize(
    ("built", "here", "fits"),
    [
        ("2.13.0+cpu", "2.13.0+cpu", True),
        ("2.13.0+cpu", "2.13.0+cu130", True),
        ("2.13.0", "2.13.0+rocm6.4", True),
        ("2.13.0+cpu", "2.13.1+cpu", False),
        ("2.13.0+cpu", "2.14.0+cpu", False),
        ("2.6.0+cpu", "2.6.0+cu126", False),  # their std::string differs
        ("2.6.0+cu124", "2.6.0+cu124", True),
        ("2.15.0.dev20261101+cpu", "2.15.0.dev20261101+cu130", False),
        ("2.13.0a0+git1a2b3c4", "2.13.0", False),
        ("2.13.0+git1a2b3c4", "2.13.0+cpu", False),
    ],
)
def test_a_bridge_fits_every_build_of_its_release(built: str, here: str, fits: bool) -> None:
    assert _native._fits(built, here) is fits


def test_a_build_without_torch_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    module, why = _native._load_bridge()
    assert module is None
    assert "without its bridge to torch" in why
