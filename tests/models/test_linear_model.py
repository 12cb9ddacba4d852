"""LinearModel and InterpretableModel, and what fits refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from meteors_c import _core, models
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.models import InterpretableModel, LinearModel, SkLearnLasso, SkLearnLinearRegression, SkLearnRidge


def constructed(**arguments: Any) -> LinearModel:
    model = LinearModel(lambda model, **kwargs: None)
    model._construct_model_params(**arguments)
    return model


def data(*arrays: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*[torch.as_tensor(array) for array in arrays]), batch_size=2)


def test_the_training_function_is_called() -> None:
    seen: dict[str, Any] = {}

    def train(model: LinearModel, **kwargs: Any) -> str:
        seen.update(kwargs)
        model._construct_model_params(weight_values=torch.ones(1, 3), bias=False)
        return "fitted"

    model, batches = LinearModel(train, alpha=3), data(torch.ones(4, 3))
    assert model.fit(batches, epochs=2) == "fitted"
    assert seen == {"dataloader": batches, "construct_kwargs": {"alpha": 3}, "epochs": 2}
    assert model(torch.ones(2, 3)).tolist() == [[3.0], [3.0]]
    assert model.bias() is None
    assert isinstance(model, nn.Module)
    assert isinstance(model, InterpretableModel)


def test_parameters_by_their_sizes() -> None:
    model = constructed(in_features=3, out_features=2)
    assert model.get_representation().shape == (2, 3)
    assert model.bias().shape == (2,)
    assert model.classes() is None
    assert model.norm is None


def test_parameters_by_their_values() -> None:
    weight, bias, classes = torch.randn(2, 3), torch.randn(1, 2), torch.tensor([4, 7])
    state = torch.get_rng_state()
    model = constructed(in_features=9, out_features=9, weight_values=weight, bias_value=bias, classes=classes)
    assert torch.equal(torch.get_rng_state(), state), "nothing was left to chance"
    x = torch.randn(5, 3)
    torch.testing.assert_close(model.forward(x), x @ weight.T + bias)
    assert torch.equal(model.bias(), bias)
    assert torch.equal(model.classes(), classes)
    assert constructed(weight_values=torch.ones(3), bias=False).get_representation().shape == (1, 3)


@pytest.mark.parametrize(("norm_type", "layer"), [("batch_norm", nn.BatchNorm1d), ("layer_norm", nn.LayerNorm)])
@pytest.mark.parametrize("affine", [True, False])
def test_normalisation_comes_first(norm_type: str, layer: type[nn.Module], affine: bool) -> None:
    weight, x = torch.randn(1, 4), 3 + 2 * torch.randn(50, 4)
    model = constructed(weight_values=weight, bias=False, norm_type=norm_type, affine_norm=affine)
    assert isinstance(model.norm, layer)
    assert len(list(model.parameters())) == (3 if affine else 1)
    over = 0 if norm_type == "batch_norm" else 1
    normal = (x - x.mean(over, keepdim=True)) / x.std(over, keepdim=True, correction=0)
    torch.testing.assert_close(model(x), normal @ weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "weight_values"),
        ({"in_features": 3}, "out_features"),
        ({"weight_values": torch.ones(1, 2), "norm_type": "group_norm"}, "group_norm"),
        ({"weight_values": torch.ones(1, 2), "bias": False, "bias_value": torch.ones(1)}, "bias_value"),
    ],
)
def test_parameters_that_are_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        constructed(**arguments)


def test_before_a_fit_there_is_nothing_to_show() -> None:
    with pytest.raises(RuntimeError, match="fit"):
        SkLearnLasso().get_representation()
    with pytest.raises(RuntimeError, match="fit"):
        SkLearnLasso()(torch.ones(1, 2))


def test_interpretable_models_are_to_be_derived_from() -> None:
    with pytest.raises(TypeError, match="abstract"):
        InterpretableModel()  # type: ignore[abstract]
    assert models.abstract.ExplainableModel is models.ExplainableModel


# ---------------------------------------------------------------- what is refused


def test_arguments_that_an_estimator_lacks() -> None:
    with pytest.raises(TypeError, match=r"foo.*alpha"):
        SkLearnLasso(foo=1)
    with pytest.raises(TypeError, match="alpha"):
        SkLearnLinearRegression(alpha=1.0)
    with pytest.raises(TypeError, match="nonsense"):
        SkLearnRidge().fit(data(torch.ones(3, 1), torch.ones(3)), nonsense=1)


@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf"), np.float64(-2)])
@pytest.mark.parametrize("model", [SkLearnLasso, SkLearnRidge])
def test_penalties_that_are_refused(model: type[Any], alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        model(alpha=alpha)


X, Y = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]), torch.tensor([1.0, 0.0, 2.0])
NAN = float("nan")


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ((X,), "1 tensors"),
        ((X, Y, Y, Y), "4 tensors"),
        ((X[:0], Y[:0]), "no batch"),
        ((X[:, 0], Y), "features"),
        ((X, torch.ones(3, 1, 1)), "outputs"),
        ((X, Y, torch.ones(3, 2)), "weight"),
        ((torch.where(X == 3, NAN, X), Y), "x must be finite.*row 1, column 0"),
        ((X, torch.tensor([1.0, NAN, 0.0])), "y must be finite.*row 1"),
        ((X, Y, torch.tensor([1.0, NAN, 1.0])), "weights"),
        ((X, Y, torch.tensor([1.0, -1.0, 1.0])), "weights.*-1"),
        ((X, Y, torch.zeros(3)), "weights are 0"),
    ],
)
@pytest.mark.parametrize("model", [SkLearnLasso, SkLearnRidge, SkLearnLinearRegression])
def test_data_that_are_refused(model: type[Any], arrays: tuple[torch.Tensor, ...], word: str) -> None:
    fitted = model()
    with pytest.raises(ValueError, match=word):
        fitted.fit(data(*arrays))
    assert fitted.linear is None


def test_complex_data_are_refused() -> None:
    with pytest.raises(TypeError, match="complex64"):
        SkLearnRidge().fit(data(X.to(torch.complex64), Y))


def fit(*arrays: Any, **changed: Any) -> Any:
    options = {"kind": "ridge", "alpha": 1.0, "intercept": True, "positive": False, "max_iterations": 0}
    return _core.fit_linear(*arrays, **{**options, "tolerance": 0.0, **changed})


def test_arrays_that_the_core_refuses() -> None:
    x, y = np.ones((4, 2)), np.ones((4, 1))
    with pytest.raises(TypeError, match=r"x.*float32"):
        fit(x.astype(np.float32), y, None)
    with pytest.raises(TypeError, match="C-contiguous"):
        fit(np.asfortranarray(x), y, None)
    with pytest.raises(TypeError, match=r"y.*list"):
        fit(x, [1.0] * 4, None)
    with pytest.raises(ValueError, match="2 axes"):
        fit(x, y[:, 0], None)
    with pytest.raises(ShapeMismatchError, match=r"4 rows.*3"):
        fit(x, y[:3].copy(), None)
    with pytest.raises(ShapeMismatchError, match="5"):
        fit(x, y, np.ones(5))
    with pytest.raises(ValueError, match="kind"):
        fit(x, y, None, kind="elastic net")
    with pytest.raises(ValueError, match="max_iterations"):
        fit(x, y, None, max_iterations=-1)
    with pytest.raises(ValueError, match="features"):
        fit(np.ones((4, 0)), y, None)
