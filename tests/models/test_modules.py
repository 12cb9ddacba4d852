"""Networks of every make: found in functions, asked for device, dtype and mode, and explained."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import InputXGradient, IntegratedGradients, Occlusion, Saliency
from meteors_c.models import ExplainableModel
from tests.parity import reference
from tests.parity.reference import assert_close
from tests.toys import BANDS, COLUMNS, PATHS, ROWS, SHAPE, convolutional, cube, values

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def network(mode: bool = False, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Three outputs, with batch norm and dropout."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(BANDS, 4, 1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * ROWS * COLUMNS, 3),
    )
    return net.to(dtype).train(mode)


def batches() -> torch.Tensor:
    return torch.zeros(2, *SHAPE, dtype=torch.float64)


def reloaded(script: Any) -> Any:
    memory = io.BytesIO()
    torch.jit.save(script, memory)
    memory.seek(0)
    return torch.jit.load(memory)


def exported(net: nn.Module) -> nn.Module:
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(net, (batches(),), dynamic_shapes=sizes).module()


class Around(nn.Module):
    """A wrapper that is made around a network, in train mode itself as every new module is."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Asks(Around):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) * (2 if self.training else 1)


class Caller:
    """A callable object."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def decorated(net: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def outer(x: torch.Tensor) -> torch.Tensor:
            return function(x)

        return outer

    @decorate
    @decorate
    def predict(x: torch.Tensor) -> torch.Tensor:
        return net(x)

    return predict


def as_global(net: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that finds its network among the globals, as in a notebook."""
    space: dict[str, Any] = {"net": net, "unused": network(True)}
    exec("def predict(x):\n    return helper(x).clone()\ndef helper(x):\n    return net(x)", space)
    return space["predict"]


def default(net: nn.Module) -> Callable[..., torch.Tensor]:
    def predict(x: torch.Tensor, net: nn.Module = net) -> torch.Tensor:
        return net(x)

    return predict


def around(model: ExplainableModel) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: model(x)


MODULES: dict[str, Callable[[nn.Module], Any]] = {
    "eager": lambda net: net,
    "scripted": torch.jit.script,
    "exported": exported,
    "data parallel": nn.DataParallel,
    "wrapper": Around,
    "two wrappers": lambda net: nn.Sequential(Around(net)),
    "scripted wrapper": lambda net: torch.jit.script(Around(net)),
    "traced": lambda net: torch.jit.trace(net, batches(), check_trace=False),
    "fx": torch.fx.symbolic_trace,
}
FROZEN: dict[str, Callable[[nn.Module], Any]] = {
    "frozen": lambda net: torch.jit.freeze(torch.jit.script(net)),
    "frozen trace": lambda net: torch.jit.freeze(torch.jit.trace(net, batches())),
    "frozen, reloaded": lambda net: reloaded(torch.jit.freeze(torch.jit.script(net))),
    "optimized": lambda net: torch.jit.optimize_for_inference(torch.jit.script(net)),
}
FUNCTIONS: dict[str, Callable[[nn.Module], Any]] = {
    "lambda": lambda net: lambda x: net(x),
    "lambda around a list": lambda net: (lambda nets: lambda x: nets[0](x))([net]),
    "function in a function": lambda net: lambda x: (lambda y: net(y))(x),
    "partial": lambda net: functools.partial(net),
    "partial argument": lambda net: functools.partial(lambda model, x: model(x), net),
    "partial keyword": lambda net: functools.partial(lambda x, model: model(x), model=net),
    "bound method": lambda net: net.forward,
    "method of an object": lambda net: Caller(net).predict,
    "callable object": Caller,
    "decorated": decorated,
    "global": as_global,
    "default": default,
    "model in a function": lambda net: around(ExplainableModel(net, "regression")),
}
ALL = {**MODULES, **FROZEN, **FUNCTIONS}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_every_make_is_explained_without_a_warning_in_eval_mode(make: Any, native: bool) -> None:
    net, hsi = network(), cube()
    model = ExplainableModel(make(network()), "classification")
    with mt.options(native=native), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        occluded = Occlusion(model).get_spatial_attributes([hsi, cube(1)], 1, 2, 2)[0]
        gradients = [method(model).attribute(hsi, target=1) for method in (InputXGradient, IntegratedGradients)]
    plain = Occlusion(ExplainableModel(net, "classification")).get_spatial_attributes(hsi, 1, 2, 2)
    assert_close(occluded.attributes, plain.attributes)
    assert_close(gradients[0].attributes, reference.input_x_gradient(net, hsi.image, 1))
    assert_close(gradients[1].attributes, reference.integrated_gradients(net, hsi.image, 0.0, 1))


@pytest.mark.parametrize("make", [*MODULES.values(), *FUNCTIONS.values()], ids=[*MODULES, *FUNCTIONS])
def test_train_mode_is_seen_once_and_statistics_are_mentioned(make: Any) -> None:
    model = ExplainableModel(make(network(True)), "classification")
    with pytest.warns(UserWarning, match=r"train mode.*statistics.*changed") as caught:
        Occlusion(model).get_spatial_attributes(cube(), 1, 2, 2)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Occlusion(model).get_spatial_attributes(cube(), 1, 2, 2)


@pytest.mark.parametrize("make", [*MODULES.values(), *FUNCTIONS.values()], ids=[*MODULES, *FUNCTIONS])
def test_train_mode_without_batch_norm_changes_no_statistics(make: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(BANDS * ROWS * COLUMNS, 3)).double().train()
    with pytest.warns(UserWarning, match="train mode") as caught:
        Occlusion(ExplainableModel(make(net), "classification")).get_spatial_attributes(cube(), 1, 2, 2)
    assert not any("changed" in str(warning.message) for warning in caught)


def test_batch_norm_in_train_mode_inside_a_network_in_eval_mode() -> None:
    net = network()
    net[1].train()
    with pytest.warns(UserWarning, match=r"train mode.*changed"):
        Saliency(ExplainableModel(Around(net), "classification")).attribute(cube(), target=0)
    net = network()
    net[1] = nn.BatchNorm2d(4, track_running_stats=False).double().train()
    with pytest.warns(UserWarning, match="train mode") as caught:
        Saliency(ExplainableModel(net, "classification")).attribute(cube(), target=0)
    assert "changed" not in str(caught[0].message)


@pytest.mark.parametrize("make", [Asks, lambda net: torch.jit.script(Asks(net))], ids=["eager", "scripted"])
def test_a_wrapper_that_asks_for_its_mode_counts(make: Any) -> None:
    with pytest.warns(UserWarning, match="train mode"):
        Saliency(ExplainableModel(make(network()), "classification")).attribute(cube(), target=0)


def test_networks_that_a_function_does_not_read_are_left_alone() -> None:
    model = ExplainableModel(as_global(network()), "regression")
    assert len(model.modules) == 1
    assert model.module is None


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_device_and_dtype(make: Any) -> None:
    net = network()
    model = ExplainableModel(make(net), "regression")
    assert Saliency(model).device == torch.device("cpu")
    assert model.dtypes == {torch.float64}
    if make in FUNCTIONS.values():
        assert model.modules == (net,)


@pytest.mark.parametrize("make", [FUNCTIONS["lambda"], FUNCTIONS["callable object"], nn.DataParallel])
def test_networks_in_functions_move(make: Any) -> None:
    net = network()
    model = ExplainableModel(make(net), "regression")
    model.to("meta")
    assert next(net.parameters()).is_meta
    assert model.device == torch.device("meta")


def test_networks_that_hold_each_other_end() -> None:
    """Functions and objects that refer to themselves are looked at once."""

    class Loop:
        def __init__(self) -> None:
            self.itself: Any = self
            self.many = [self] * 5

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return recursive(x)

    def recursive(x: torch.Tensor) -> torch.Tensor:
        return x if loop is None else x.sum((1, 2, 3))

    loop = Loop()
    model = ExplainableModel(loop, "regression")
    assert model.modules == ()
    assert_close(Saliency(model).attribute(cube()).attributes, torch.ones(SHAPE).double())


# ---------------------------------------------------------------- dtypes


@pytest.mark.parametrize("options", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(
    ("image", "model"), [(torch.float64, torch.float32), (torch.float32, torch.float64)], ids=["down", "up"]
)
def test_an_image_of_another_precision_is_converted_and_it_is_said_once(image: Any, model: Any, options: Any) -> None:
    net = convolutional(dtype=model)
    explained = ExplainableModel(net, "regression")
    hsi = cube(dtype=image)
    with mt.options(**options):
        with pytest.warns(UserWarning, match=r"float\d\d.*float\d\d") as caught:
            found = IntegratedGradients(explained).attribute(hsi, target=1, n_steps=6, return_convergence_delta=True)
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gradient = InputXGradient(explained).attribute([hsi, hsi], target=1)[1]
            occluded = Occlusion(explained).get_spatial_attributes(hsi, 1, 2, 2)
    assert {found.attributes.dtype, gradient.attributes.dtype, occluded.attributes.dtype} == {image}
    plain, exact = convolutional(), values(0, image).double()
    for one, wanted in [
        (found, reference.integrated_gradients(plain, exact, 0.0, 1, n_steps=6)),
        (gradient, reference.input_x_gradient(plain, exact, 1)),
        (occluded, Occlusion(ExplainableModel(plain, "regression")).get_spatial_attributes(cube(image=exact), 1, 2, 2)),
    ]:
        wanted = wanted if torch.is_tensor(wanted) else wanted.attributes
        assert_close(one.attributes.double(), wanted, 1e-5)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_images_in_half_precision_are_computed_in_float32(half: torch.dtype, native: bool) -> None:
    """Squares that leave the range of float16, by a network in float32 and by a function without parameters."""
    image = (values() * 500).to(half)
    hsi = cube(image=image)

    def squares(x: torch.Tensor) -> torch.Tensor:
        assert x.dtype is torch.float32
        return (x * x).sum((1, 2, 3))[:, None]

    net = nn.Conv2d(BANDS, 1, 1).eval()
    net.requires_grad_(False).weight.fill_(1.0)
    for function in (squares, lambda x: squares(net(x))):
        with mt.options(native=native), warnings.catch_warnings():
            warnings.simplefilter("error")
            found = IntegratedGradients(ExplainableModel(function, "regression")).attribute(hsi, target=0)
        wanted = IntegratedGradients(ExplainableModel(function, "regression")).attribute(
            cube(image=image.float()), target=0
        )
        assert found.attributes.dtype is torch.float32
        assert found.attributes.isfinite().all()
        assert_close(found.attributes.double(), wanted.attributes.double(), 1e-6)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("image", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_networks_in_half_precision_are_given_it(image: torch.dtype, native: bool) -> None:
    seen: set[torch.dtype] = set()

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(x.dtype)
            return (x * self.weight).flatten(1).sum(1, keepdim=True)

    model = ExplainableModel(Half().eval(), "regression")
    with mt.options(native=native), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = InputXGradient(model).attribute(cube(dtype=image), target=0).attributes
    assert seen == {torch.bfloat16}
    assert len(caught) == (image is not torch.bfloat16)
    assert found.dtype is (torch.float64 if image is torch.float64 else torch.float32)
    assert_close(found.double(), values(0, image).double(), 1e-2)


def test_a_network_of_several_precisions_takes_the_image_s() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))
            self.two = nn.Parameter(torch.ones(1).double())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add(x.dtype)
            return (x * self.one * self.two).flatten(1).sum(1, keepdim=True)

    seen: set[torch.dtype] = set()
    for dtype in (torch.float32, torch.float64):
        Saliency(ExplainableModel(Mixed().eval(), "regression")).attribute(cube(dtype=dtype), target=0)
    assert seen == {torch.float32, torch.float64}


def test_models_on_arrays_get_the_image_s_precision() -> None:
    seen: set[Any] = set()

    def model(x: Any) -> Any:
        seen.add(str(x.dtype))
        return x.sum((1, 2, 3))

    for dtype in (torch.float16, torch.float32, torch.float64):
        found = Occlusion(ExplainableModel(model, "regression", array_input=True)).attribute(cube(dtype=dtype))
        assert found.attributes.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert seen == {"float32", "float64"}
