"""What a model may return, and postprocessing_output where it returns something else."""

from __future__ import annotations

import operator
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import IntegratedGradients, Occlusion, Saliency
from meteors_c.models import ExplainableModel
from tests.parity.reference import assert_close
from tests.toys import PATHS, convolutional, cube, explainable

each_path = pytest.mark.parametrize("options", PATHS.values(), ids=PATHS)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


@dataclass
class One:
    score: torch.Tensor
    name: str = "score"


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """As in transformers: a dict whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


Named = namedtuple("Named", ["aux", "logits"])

ANSWERS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tuple": lambda y: (y,),
    "tuple with none": lambda y: (None, y, 3),
    "list": lambda y: [y],
    "tuple in a tuple": lambda y: ((y,), None),
    "dict": lambda y: {"anything": y},
    "dict with logits": lambda y: {"loss": y.mean(), "logits": y},
    "dict with out": lambda y: OrderedDict(out=y, aux=y * 2),
    "dataclass": One,
    "dataclass with logits": lambda y: Output(y, y * 2),
    "model output": lambda y: ModelOutput(logits=y, hidden_states=(y, y)),
    "named tuple": lambda y: Named(y * 2, y),
    "attribute": lambda y: SimpleNamespace(logits=y, other=y),
}


class Wrapped(nn.Module):
    def __init__(self, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.body, self.wrap = convolutional(), wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(self.body(x))


def runs(function: Any, **arguments: Any) -> list[torch.Tensor]:
    model = ExplainableModel(function, "classification", **arguments)
    images = [cube(0), cube(1)]
    return [
        *[found.attributes for found in IntegratedGradients(model).attribute(images, target=1, n_steps=5)],
        *[found.attributes for found in Occlusion(model).get_spatial_attributes(images, 1, 2, 2)],
        Saliency(model).attribute(images[0], target=1).attributes,
    ]


@each_path
@pytest.mark.parametrize("wrap", ANSWERS.values(), ids=ANSWERS)
def test_the_tensor_in_an_answer_is_taken(wrap: Any, options: dict[str, Any]) -> None:
    with mt.options(**options):
        found = runs(Wrapped(wrap).eval())
    for one, other in zip(found, runs(convolutional()), strict=True):
        assert_close(one, other)


TWO: dict[str, tuple[Callable[[torch.Tensor], Any], list[str]]] = {
    "tuple": (lambda y: (y, y), ["tuple", "0", "1"]),
    "dict": (lambda y: {"soil": y, "grass": y}, ["dict", "soil", "grass"]),
    "dataclass": (lambda y: SimpleNamespace(), ["SimpleNamespace"]),
    "nested": (lambda y: {"heads": [y, y]}, ["dict", "heads", "list"]),
    "logits that are no tensor": (lambda y: {"logits": [y, y]}, ["dict", "logits", "list"]),
    "many": (lambda y: {f"head {i}": y for i in range(100)}, ["dict", "head 0", "94 more"]),
}


@each_path
@pytest.mark.parametrize(("wrap", "words"), TWO.values(), ids=TWO)
def test_other_answers_name_what_came_and_the_way_out(wrap: Any, words: list[str], options: dict[str, Any]) -> None:
    for method in (Saliency, IntegratedGradients, Occlusion):
        with mt.options(**options), pytest.raises(TypeError) as caught:
            method(explainable(Wrapped(wrap))).attribute(cube(), target=0)
        message = str(caught.value)
        assert all(word in message for word in [*words, "postprocessing_output"])
        assert len(message) < 500


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_may_return_them_too() -> None:
    class Tuple(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = convolutional()

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
            return self.body(x), 3

    class Dict(Tuple):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.body(x)
            return {"aux": y * 2, "out": y}

    class Both(Tuple):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.body(x)
            return y, y * 2

    for kind in (Tuple, Dict):
        for one, other in zip(runs(torch.jit.script(kind().eval())), runs(convolutional()), strict=True):
            assert_close(one, other)
    with pytest.raises(TypeError, match=r"tuple.*postprocessing_output"):
        runs(torch.jit.script(Both().eval()))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: [y],
        lambda y: y.tolist(),
        lambda y: {"probabilities": y},
        lambda y: {"logits": y, "other": y * 2},
        lambda y: list(y),
        lambda y: Named(None, y),
    ],
    ids=["onnx", "lists", "dict", "logits", "rows", "named"],
)
def test_models_on_arrays_may_return_them_too(wrap: Any) -> None:
    def model(x: np.ndarray) -> np.ndarray:
        return np.stack([x.sum((1, 2, 3)), (x * x).sum((1, 2, 3))], 1)

    for size in (None, 1):
        found, wanted = (
            Occlusion(explainable(function, array_input=True))
            .get_spatial_attributes(cube(), 1, 2, 2, perturbations_per_eval=size)
            .attributes
            for function in (lambda x: wrap(model(x)), model)
        )
        assert torch.equal(found, wanted)


def test_arrays_that_are_not_told_apart_name_the_way_out() -> None:
    model = explainable(lambda x: {"soil": x, "grass": x}, array_input=True)
    with pytest.raises(TypeError, match=r"dict.*soil.*grass.*postprocessing_output"):
        Occlusion(model).attribute(cube(), 0)


# ---------------------------------------------------------------- postprocessing_output

PICKS: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[[Any], Any]]] = {
    "entry": (lambda y: (y, y * 2), lambda answer: answer[0]),
    "last entry": (lambda y: (y * 2, y), lambda answer: answer[-1]),
    "name": (lambda y: {"soil": y, "grass": y * 2}, lambda answer: answer["soil"]),
    "attribute": (lambda y: SimpleNamespace(soil=y, grass=y * 2), lambda answer: answer.soil),
    "itemgetter": (lambda y: (y, y * 2), operator.itemgetter(0)),
    "attrgetter": (lambda y: SimpleNamespace(soil=y), operator.attrgetter("soil")),
}


def unpacks(answer: Any) -> torch.Tensor:
    first, _ = answer
    return first


PICKS["unpacked"] = (lambda y: (y, y * 2), unpacks)


@each_path
@pytest.mark.parametrize(("wrap", "pick"), PICKS.values(), ids=PICKS)
def test_postprocessing_of_an_answer_that_is_no_tensor_is_welcome(wrap: Any, pick: Any, options: Any) -> None:
    with mt.options(**options), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = runs(Wrapped(wrap).eval(), postprocessing_output=pick)
    for one, other in zip(found, runs(convolutional()), strict=True):
        assert_close(one, other)


@each_path
def test_postprocessing_that_picks_from_a_tensor_warns_at_the_first_call(options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ExplainableModel(convolutional(), "regression", lambda y: y[0][None])
    with mt.options(**options):
        with pytest.warns(UserWarning, match="postprocessing_output") as caught:
            Saliency(model).attribute(cube(), target=0)
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Saliency(model).attribute(cube(), target=0)
