"""What all methods share: explainers and their models, how the model is called, what passes through, what is kept."""

from __future__ import annotations

import inspect
import signal
import threading
import time
import traceback
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import (
    Explainer,
    FeatureAblation,
    HSIAttributes,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    Saliency,
)
from meteors_c.attr.explainer import validate_and_transform_baseline
from meteors_c.exceptions import HSIAttributesError, ShapeMismatchError
from meteors_c.models import ExplainableModel
from tests.parity import reference
from tests.toys import (
    COMPANY,
    PATHS,
    SHAPE,
    Quadratic,
    Watched,
    assert_declined,
    assert_shortcut,
    convolutional,
    cube,
    evaluated,
    explainable,
    smooth,
    traced,
    values,
)

METHODS = [Saliency, InputXGradient, IntegratedGradients]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
each_path = pytest.mark.parametrize("options", PATHS.values(), ids=PATHS)

# ---------------------------------------------------------------- explainers


def test_names() -> None:
    assert Explainer.get_name() == "Explainer"
    assert Saliency.get_name() == "Saliency"
    assert InputXGradient.get_name() == "Input X Gradient"
    assert IntegratedGradients.get_name() == "Integrated Gradients"
    assert type("HyperNoiseTunnel", (Explainer,), {}).get_name() == "Hyper Noise Tunnel"


@pytest.mark.parametrize("method", [Explainer, *METHODS])
def test_attributes_of_an_explainer(method: Any) -> None:
    model = explainable(smooth())
    explainer = method(model)
    assert explainer.explainable_model is model
    assert explainer.chained_explainer is None
    assert explainer.forward_func is model.forward_func
    assert explainer.device == torch.device("cpu")
    assert explainer.has_convergence_delta() is (method is IntegratedGradients)
    assert explainer.multiplies_by_inputs is (method in (InputXGradient, IntegratedGradients))
    assert (explainer._attribution_method is None) is (method is Explainer)
    with pytest.raises(NotImplementedError):
        explainer.compute_convergence_delta()
    with pytest.raises(NotImplementedError):
        explainer.compute_convergence_delta(torch.zeros(1), start_point=0)


def test_integrated_gradients_multiply_as_constructed() -> None:
    assert IntegratedGradients(explainable(smooth()), False).multiplies_by_inputs is False
    assert IntegratedGradients(explainable(smooth()), multiply_by_inputs=True).multiplies_by_inputs is True


@pytest.mark.parametrize("wrong", [None, 3, "model", smooth(), lambda x: x])
@pytest.mark.parametrize("method", [Explainer, *METHODS])
def test_only_models_and_explainers_can_be_explained(method: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"ExplainableModel.*{type(wrong).__name__}"):
        method(wrong)


def test_a_chain_has_one_level() -> None:
    inner = Saliency(explainable(smooth()))
    outer = Explainer(inner)
    assert outer.chained_explainer is inner
    assert outer.explainable_model is inner.explainable_model
    with pytest.raises(ValueError, match="chain"):
        Explainer(outer)


def test_a_model_without_parameters_is_taken_to_the_cpu_with_a_warning() -> None:
    explainer = Saliency(explainable(lambda x: x.sum((1, 2, 3))))
    with pytest.warns(UserWarning, match="device") as caught:
        assert explainer.device == torch.device("cpu")
    assert caught[0].filename == __file__


def test_to_moves_the_model() -> None:
    net = smooth()
    explainer = IntegratedGradients(explainable(net))
    assert explainer.to("cpu") is explainer
    explainer.to("meta")
    assert explainer.device == torch.device("meta")
    assert next(net.parameters()).is_meta


CALLS = [
    *((kind, "attribute") for kind in (*METHODS, Occlusion, FeatureAblation)),
    (Occlusion, "get_spatial_attributes"),
    (Occlusion, "get_spectral_attributes"),
]
OTHER_WRONG_ARGUMENTS = {
    "target": "none",
    "additional_forward_args": {"no": "tensor"},
    "baseline": "no baseline",
    "show_progress": "no function",
    "n_steps": -1,
    "internal_batch_size": -1,
    "method": "no rule",
    "sliding_window_shapes": "none",
    "strides": (1,) * 9,
    "perturbations_per_eval": -1,
    "feature_mask": "no mask",
}


@pytest.mark.parametrize(("kind", "name"), CALLS)
def test_without_its_native_method_every_call_stops_before_any_other_check(kind: Any, name: str) -> None:
    explainer = kind(explainable(smooth()))
    assert explainer._attribution_method is not None
    explainer._attribution_method = None
    call = getattr(explainer, name)
    known = inspect.signature(call).parameters
    wrong = {key: value for key, value in OTHER_WRONG_ARGUMENTS.items() if key in known}
    with pytest.raises(RuntimeError, match=kind.get_name()):
        call("no image", **wrong)
    with pytest.raises(RuntimeError, match=kind.get_name()):
        call(cube(), target=0)
    getattr(kind(explainable(smooth())), name)(cube(), target=0)  # other explainers keep theirs


@each_method
def test_a_result_that_cannot_be_built(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, **fields: Any) -> None:
        raise ValueError("no room for it")

    monkeypatch.setattr(HSIAttributes, "__init__", fail)
    with pytest.raises(HSIAttributesError, match="no room for it") as caught:
        method(explainable(smooth())).attribute(cube(), target=0)
    assert isinstance(caught.value.__cause__, ValueError)


def test_baselines_as_tensors() -> None:
    hsi = cube(dtype=torch.float32)
    assert torch.equal(validate_and_transform_baseline(None, hsi), torch.zeros(SHAPE))
    assert torch.equal(validate_and_transform_baseline(2, hsi), torch.full(SHAPE, 2.0))
    assert validate_and_transform_baseline(0.5, hsi).dtype == torch.float32
    own = values(1)
    assert torch.equal(validate_and_transform_baseline(own, hsi), own)
    with pytest.raises(ShapeMismatchError, match=r"baseline.*\(5, 4, 3\).*\(5, 4\)"):
        validate_and_transform_baseline(own[..., 0], hsi)
    with pytest.raises(TypeError, match=r"baseline.*str"):
        validate_and_transform_baseline("zero", hsi)  # type: ignore[arg-type]


# ---------------------------------------------------------------- how the model is called


@each_path
@pytest.mark.parametrize("size", [1, 2, 5, 7, 10, 30, 1000])
def test_the_model_never_sees_more_than_it_may(size: int, options: dict[str, Any]) -> None:
    model, images = Watched(convolutional()), [cube(i) for i in range(3)]
    with mt.options(**options):
        found = IntegratedGradients(explainable(model)).attribute(
            images, 0.5, 0, n_steps=10, internal_batch_size=size, return_convergence_delta=True
        )
    report = found[0].report
    assert max(model.sizes) <= size
    assert report.chunk_first == min(size, 30)
    assert report.chunk_largest <= size
    if options == PATHS["shortcut"]:
        assert_shortcut(report)
    else:
        assert model.sizes[0] == min(size, 30)
        assert report.evaluations == 36
        assert sum(model.sizes) == evaluated(report)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("method", [Saliency, InputXGradient])
def test_one_evaluation_an_image(method: Any, native: bool) -> None:
    model = Watched(convolutional())
    with mt.options(native=native):
        found = method(explainable(model)).attribute([cube(i) for i in range(7)], target=0)
    assert found[0].report.evaluations == 7
    assert sum(model.sizes) == evaluated(found[0].report) == 7 + 1 + (0 if native else COMPANY["python calls"])


@pytest.mark.parametrize("options", [PATHS["plain"], PATHS["python calls"]])
def test_the_model_gets_plain_batches_in_the_image_s_order(options: dict[str, Any]) -> None:
    seen: list[tuple[Any, ...]] = []

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = smooth(dtype=torch.float32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((tuple(x.shape[1:]), x.dtype, x.device.type, x.is_contiguous()))
            return self.body(x)

    turned = cube(dtype=torch.float32).change_orientation("HWC")
    with mt.options(**options):
        IntegratedGradients(explainable(Looks())).attribute(turned, target=0, n_steps=4, internal_batch_size=2)
    assert set(seen) == {((4, 3, 5), torch.float32, "cpu", True)}


class Mean(nn.Module):
    """One number for a whole batch: the mean over it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = smooth(1)
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        return self.body(x).mean()


@each_path
@pytest.mark.parametrize("size", [None, 3])
def test_one_number_for_a_batch_is_asked_for_again_one_sample_at_a_time(size: int | None, options: Any) -> None:
    model, images = Mean(), [cube(i) for i in range(2)]
    with mt.options(**options):
        product = InputXGradient(explainable(model)).attribute(images)
        found = IntegratedGradients(explainable(model)).attribute(
            images, 0.25, n_steps=7, internal_batch_size=size, return_convergence_delta=True
        )
    for hsi, one, other in zip(images, product, found, strict=True):
        reference.assert_close(one.attributes, reference.input_x_gradient(model, hsi.image))
        wanted = reference.integrated_gradients(model, hsi.image, 0.25, n_steps=7)
        reference.assert_close(other.attributes, wanted)
        delta = reference.convergence_delta(model, wanted, hsi.image, 0.25)
        assert other.score == pytest.approx(delta, abs=1e-12)


class Overwrites(nn.Module):
    """Writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = smooth()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x.mul_(2).add_(0.5)
        return self.body(x)


@each_path
@each_method
def test_a_model_may_write_into_its_input(method: Any, options: dict[str, Any]) -> None:
    images = [cube(i) for i in range(3)]
    arguments = {"n_steps": 9, "internal_batch_size": 2} if method is IntegratedGradients else {}
    with mt.options(**options):
        found = method(explainable(Overwrites())).attribute(images, target=0, **arguments)
    for i, (result, hsi) in enumerate(zip(found, images, strict=True)):
        assert torch.equal(hsi.image, values(i))
        inner = reference.mean_gradient(lambda x: smooth()(2 * x + 0.5), hsi.image, target=0, n_steps=9) / 2
        direct = reference.gradient(lambda x: smooth()(2 * x + 0.5), hsi.image, 0) / 2
        wanted = {
            Saliency: direct.abs(),
            InputXGradient: hsi.image * direct,
            IntegratedGradients: hsi.image * inner,
        }[method]
        reference.assert_close(result.attributes, wanted)


class Keeps(nn.Module):
    """Keeps what it is given, with a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutional()
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept.append((x, x.detach().clone()))
        return self.body(x)


@each_path
def test_what_a_model_keeps_is_never_written_again(options: dict[str, Any]) -> None:
    model = Keeps()
    with mt.options(**options):
        IntegratedGradients(explainable(model)).attribute(
            [cube(0), cube(1)], target=0, n_steps=20, internal_batch_size=4, return_convergence_delta=True
        )
    assert len(model.kept) > 3
    for given, copy in model.kept:
        assert torch.equal(given.nan_to_num(123.0), copy.nan_to_num(123.0))


# ---------------------------------------------------------------- what passes through


class Own(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)
        self.one = one


class Raising(nn.Module):
    def __init__(self, error: BaseException, after: int = 0) -> None:
        super().__init__()
        self.body = convolutional()
        self.error, self.left = error, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.left == 0:
            self.left = -1
            raise self.error
        self.left -= 1
        return self.body(x)


@each_path
@each_method
@pytest.mark.parametrize(
    "error", [Own(1, 2), KeyError(), StopIteration(), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
def test_exceptions_of_the_model_pass_unchanged(error: BaseException, method: Any, options: dict[str, Any]) -> None:
    model, hsi = Raising(error), cube()
    explainer = method(explainable(model))
    with mt.options(**options):
        with pytest.raises(type(error)) as caught:
            explainer.attribute(hsi, target=0)
        assert caught.value is error
        assert caught.value.args == error.args
        assert "forward" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        usable = explainer.attribute(hsi, target=0).attributes
    assert torch.equal(hsi.image, values())
    wanted = method(explainable(convolutional())).attribute(cube(), target=0).attributes
    torch.testing.assert_close(usable, wanted, rtol=1e-11, atol=1e-13)


@each_path
def test_an_exception_amid_the_run(options: dict[str, Any]) -> None:
    error, recorded = Own(5, 6), options.get("shortcuts") == "always"
    explainer = IntegratedGradients(explainable(Raising(error, after=2 if recorded else 12)))
    with mt.options(**options):
        if recorded:  # once while the model is recorded: a reason to go without
            assert explainer.attribute(cube(), target=0, internal_batch_size=1).report.decline_reason == "failure"
        else:
            with pytest.raises(Own) as caught:
                explainer.attribute(cube(), target=0, internal_batch_size=1)
            assert caught.value is error
        assert explainer.attribute(cube(), target=0).attributes.any()


def test_an_exception_in_the_backward_pass() -> None:
    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            raise Own(3, 4)

    for native in (True, False):
        with mt.options(native=native), pytest.raises(Own) as caught:
            Saliency(explainable(lambda x: Backward.apply(x).sum((1, 2, 3)))).attribute(cube())
        assert caught.value.one == 3
        assert "backward" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@each_path
def test_ctrl_c_stops_within_one_call_and_leaves_everything_usable(options: dict[str, Any]) -> None:
    class Signals(nn.Module):
        def __init__(self, at: int) -> None:
            super().__init__()
            self.body = convolutional()
            self.calls, self.at = 0, at

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == self.at:
                signal.raise_signal(signal.SIGINT)
            return self.body(x)

    model = Signals(3 if options.get("shortcuts") == "always" else 15)  # while it is recorded; amid the run
    explainer = IntegratedGradients(explainable(model))
    with mt.options(**options):
        with pytest.raises(KeyboardInterrupt):
            explainer.attribute(cube(), target=0, n_steps=100, internal_batch_size=1)
        assert model.calls <= model.at + 1
        found = explainer.attribute(cube(), target=0, n_steps=100)
    wanted = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0, n_steps=100)
    torch.testing.assert_close(found.attributes, wanted.attributes, rtol=1e-11, atol=1e-13)


def test_ctrl_c_stops_a_model_that_runs_without_python() -> None:
    """The engine itself looks for signals: nothing else would, for a TorchScript module."""
    script = traced(convolutional())
    explainer = IntegratedGradients(explainable(script))
    alarm = threading.Timer(0.2, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    explainer.attribute(cube(), target=0)
    alarm.start()
    with pytest.raises(KeyboardInterrupt):
        explainer.attribute(cube(), target=0, n_steps=10**9, method="riemann_left")  # some hours, left alone
    alarm.join()
    assert explainer.attribute(cube(), target=0).attributes.any()


# ---------------------------------------------------------------- threads


class Pause(nn.Module):
    """Lets other threads run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.0005)
        return x


@each_path
def test_threads_may_share_a_model(options: dict[str, Any]) -> None:
    model, net = Quadratic(), convolutional()
    shared = IntegratedGradients(explainable(model))
    network = IntegratedGradients(explainable(nn.Sequential(net[:1], Pause(), net[1:])))
    wanted = [network.attribute(cube(i), target=i % 3).attributes for i in range(4)]
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def work(i: int) -> None:
        try:
            start.wait()
            for _ in range(5):
                with mt.options(**options):
                    quadratic = shared.attribute(cube(i), target=0, n_steps=6, internal_batch_size=2).attributes
                    found = network.attribute(cube(i), target=i % 3, internal_batch_size=5).attributes
                torch.testing.assert_close(quadratic, values(i) * model.gradient(values(i) / 2, 0))
                torch.testing.assert_close(found, wanted[i], rtol=1e-11, atol=1e-13)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def test_options_belong_to_their_thread() -> None:
    found: dict[str, Any] = {}

    def work() -> None:
        with mt.options(shortcuts="always"):
            inside.wait()
            found["there"] = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0).report
        found["after"] = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0).report

    inside = threading.Barrier(2)
    with mt.options(shortcuts=False):
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait()
        thread.join()
        here = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0).report
    assert_shortcut(found["there"], "affine prefix")
    assert found["after"].decline_reason != "switched_off"
    assert_declined(here, "switched_off")


def test_a_model_may_attribute_itself() -> None:
    """A call inside a call, on the same model."""
    net = smooth(1)
    inside: list[torch.Tensor] = []

    def outer(x: torch.Tensor) -> torch.Tensor:
        inside.append(Saliency(explainable(net)).attribute(cube(3)).attributes)
        return net(x)

    found = Saliency(ExplainableModel(outer, "regression")).attribute(cube()).attributes
    reference.assert_close(found, reference.saliency(net, values()))
    reference.assert_close(inside[0], reference.saliency(net, values(3)))


@each_path
@each_method
def test_an_option_bounds_the_samples_that_a_model_sees_at_once(method: Any, options: dict[str, Any]) -> None:
    seen: list[int] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return (x**2).flatten(1).sum(1)

    explainer, images = method(ExplainableModel(model, "regression")), [cube() for _ in range(7)]
    free = [result.attributes for result in explainer.attribute(images)]
    assert max(seen) > 2
    seen.clear()
    with mt.options(batch=2, **options):
        bounded = explainer.attribute(images)
    assert max(seen) <= 2
    for one, other in zip(free, bounded, strict=True):
        torch.testing.assert_close(one, other.attributes)
