"""What may be given wrong to Occlusion and the noise tunnels: the table of test_bad_input.py, continued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import meteors_c as mt
from meteors_c.attr import (
    Explainer,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from meteors_c.attr.noise_tunnel import torch_random_choice
from meteors_c.exceptions import ShapeMismatchError
from tests import test_bad_input as first_table
from tests.test_bad_input import FINE, INF, NAN, raising, total
from tests.toys import PATHS, SHAPE, convolutional, cube, each_value, explainable, name_of, values

SHAPE_WORDS = "(5, 4, 3)"


def boxes(image: Any = None, **arguments: Any) -> Callable[[], Any]:
    image = cube() if image is None else image
    return lambda: Occlusion(explainable(FINE)).attribute(image, **{"target": 0, **arguments})


def pixels(image: Any = None, **arguments: Any) -> Callable[[], Any]:
    image = cube() if image is None else image
    return lambda: Occlusion(explainable(FINE)).get_spatial_attributes(image, **{"target": 0, **arguments})


def bands(image: Any = None, **arguments: Any) -> Callable[[], Any]:
    image = cube() if image is None else image
    return lambda: Occlusion(explainable(FINE)).get_spectral_attributes(image, **{"target": 0, **arguments})


def noise(image: Any = None, **arguments: Any) -> Callable[[], Any]:
    image = cube() if image is None else image
    return lambda: NoiseTunnel(Saliency(explainable(FINE))).attribute(image, **{"target": 0, **arguments})


def hyper(image: Any = None, **arguments: Any) -> Callable[[], Any]:
    image = cube() if image is None else image
    return lambda: HyperNoiseTunnel(InputXGradient(explainable(FINE))).attribute(image, **{"target": 0, **arguments})


def model(function: Any, **arguments: Any) -> Callable[[], Any]:
    """Occlusion, and tunnels around it and around a gradient; the error must come from all."""

    def call() -> None:
        explained = explainable(function)
        tunnels = NoiseTunnel(Saliency(explained)), HyperNoiseTunnel(Occlusion(explained))
        for explainer in (Occlusion(explained), *tunnels):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - raised again below
                explainer.attribute([cube(), cube(1)], **arguments)
        raise caught.value

    return call


def without_its_method() -> Any:
    explainer = Occlusion(explainable(FINE))
    explainer._attribution_method = None
    return explainer.get_spectral_attributes("nothing")


def two_orientations() -> list[Any]:
    """Of one shape, with bands on different axes."""
    return [
        mt.HSI(image=torch.ones(3, 3, 3), wavelengths=[1.0, 2.0, 3.0], orientation=orientation)
        for orientation in ("CHW", "HWC")
    ]


WINDOWS: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("windows: two of three", boxes(sliding_window_shapes=(1, 1)), ValueError, "sliding_window_shapes three"),
    ("windows: four of three", boxes(sliding_window_shapes=(1,) * 4), ValueError, "sliding_window_shapes three 4"),
    ("windows: none of three", boxes(sliding_window_shapes=()), ValueError, "sliding_window_shapes three"),
    ("windows: fraction", boxes(sliding_window_shapes=1.5), TypeError, "sliding_window_shapes 1.5"),
    ("windows: fractions", boxes(sliding_window_shapes=(1, 1, 1.5)), TypeError, "sliding_window_shapes 1.5"),
    ("windows: text", boxes(sliding_window_shapes="2"), TypeError, "sliding_window_shapes '2'"),
    ("windows: none", boxes(sliding_window_shapes=None), TypeError, "sliding_window_shapes None"),
    ("windows: zero", boxes(sliding_window_shapes=0), ValueError, "sliding_window_shapes zero"),
    ("windows: a zero", boxes(sliding_window_shapes=(1, 0, 1)), ValueError, "sliding_window_shapes zero"),
    ("windows: negative", boxes(sliding_window_shapes=-1), ValueError, "sliding_window_shapes -1"),
    ("windows: larger", boxes(sliding_window_shapes=6), ValueError, f"sliding_window_shapes (6, 6, 6) {SHAPE_WORDS}"),
    ("windows: one larger", boxes(sliding_window_shapes=(1, 5, 1)), ValueError, f"(1, 5, 1) {SHAPE_WORDS}"),
    ("windows: beyond 64 bits", boxes(sliding_window_shapes=10**30), (ValueError, OverflowError), ""),
    ("strides: two of three", boxes(strides=(1, 1)), ValueError, "strides three"),
    ("strides: four of three", boxes(strides=[1] * 4), ValueError, "strides three"),
    ("strides: fraction", boxes(strides=0.5), TypeError, "strides 0.5"),
    ("strides: zero", boxes(strides=0), ValueError, "strides zero"),
    ("strides: negative", boxes(strides=(1, 1, -1)), ValueError, "strides -1"),
    ("strides: gaps", boxes(strides=2), ValueError, "strides (2, 2, 2) sliding_window_shapes (1, 1, 1)"),
    ("strides: gaps in bands", boxes(sliding_window_shapes=(2, 4, 3), strides=(3, 4, 3)), ValueError, "strides 3"),
    ("pixels: three of two", pixels(sliding_window_shapes=(1, 1, 1)), ValueError, "sliding_window_shapes two"),
    ("pixels: one of two", pixels(sliding_window_shapes=(1,)), ValueError, "sliding_window_shapes two"),
    ("pixels: strides of three", pixels(strides=(1, 1, 1)), ValueError, "strides two"),
    ("pixels: zero stride", pixels(strides=0), ValueError, "strides zero"),
    ("pixels: a zero stride", pixels(strides=(1, 0)), ValueError, "strides zero"),
    ("pixels: fraction", pixels(sliding_window_shapes=(1, 1.0)), TypeError, "sliding_window_shapes 1.0"),
    ("pixels: larger", pixels(sliding_window_shapes=(4, 4)), ValueError, f"sliding_window_shapes 4 {SHAPE_WORDS}"),
    ("pixels: gaps", pixels(sliding_window_shapes=(2, 2), strides=3), ValueError, "strides sliding_window_shapes"),
    ("bands: two of one", bands(sliding_window_shapes=(1, 1)), ValueError, "sliding_window_shapes one"),
    ("bands: strides of two", bands(strides=(1, 1)), ValueError, "strides one"),
    ("bands: text", bands(sliding_window_shapes="B"), TypeError, "sliding_window_shapes 'B'"),
    ("bands: a list", bands(sliding_window_shapes=[1]), TypeError, "sliding_window_shapes one [1]"),
    ("bands: a list of strides", bands(strides=[1]), TypeError, "strides one [1]"),
    ("bands: fraction", bands(strides=1.0), TypeError, "strides 1.0"),
    ("bands: zero stride", bands(strides=0), ValueError, "strides zero"),
    ("bands: larger", bands(sliding_window_shapes=6), ValueError, f"sliding_window_shapes 6 {SHAPE_WORDS}"),
    ("bands: gaps", bands(sliding_window_shapes=1, strides=2), ValueError, "strides sliding_window_shapes"),
    ("bands: two orientations", lambda: bands(two_orientations())(), ValueError, "axis"),
    ("occlusion: without its method", without_its_method, RuntimeError, "attribution method None"),
]

# What every explainer must pass on to the checks that they share; the forms of wrong values are in the first table.
SHARED: list[tuple[str, Callable[[], Any], Any, str]] = [
    row
    for name, call, size in [
        ("boxes", boxes, "perturbations_per_eval"),
        ("pixels", pixels, "perturbations_per_eval"),
        ("bands", bands, "perturbations_per_eval"),
        ("noise", noise, "steps_per_batch"),
        ("hyper", hyper, "steps_per_batch"),
    ]
    for row in [
        (f"{name}: hsi text", call("field"), TypeError, "HSI str"),
        (
            f"{name}: hsi two shapes",
            call([cube(), cube(image=values(shape=(5, 4, 2)))]),
            ShapeMismatchError,
            f"shape {SHAPE_WORDS} (5, 4, 2)",
        ),
        (f"{name}: target of one image", call([cube(), cube()], target=[0, 9]), IndexError, "target 9 3 outputs"),
        (f"{name}: {size} zero", call(**{size: 0}), ValueError, f"{size} 0"),
        (f"{name}: show_progress", call(show_progress=3), TypeError, "show_progress 3"),
        (f"{name}: extra arguments", call(additional_forward_args=(1, 2)), TypeError, "positional"),
    ]
] + [
    ("boxes: hsi NaN", boxes(cube(image=values() * NAN)), ValueError, "NaN image"),
    ("noise: hsi NaN", noise(cube(image=values() * NAN)), ValueError, "NaN image"),
    ("pixels: target missing", pixels(target=None), ValueError, "target None (n, 3)"),
    ("hyper: target missing", hyper(target=None), ValueError, "target None (n, 3)"),
    ("bands: target fraction", bands(target=1.5), TypeError, "target 1.5"),
    ("noise: target fraction", noise(target=1.5), TypeError, "target 1.5"),
    ("pixels: size fraction", pixels(perturbations_per_eval=1.5), TypeError, "perturbations_per_eval 1.5"),
    ("hyper: size fraction", hyper(steps_per_batch=1.5), TypeError, "steps_per_batch 1.5"),
    ("boxes: unknown argument", boxes(windows=3), TypeError, "windows"),
    ("noise: unknown argument", noise(windows=3), TypeError, "windows"),
]

BASELINES: list[tuple[str, Callable[[], Any], Any, str]] = [
    row
    for name, call in [("boxes", boxes), ("pixels", pixels), ("bands", bands), ("hyper", hyper)]
    for row in [
        (f"{name}: baseline tuple", call([cube()] * 2, baseline=(0, 1)), TypeError, "baseline tuple"),
        (f"{name}: baseline shape", call(baseline=values()[0]), ShapeMismatchError, f"baseline {SHAPE_WORDS} (4, 3)"),
        (f"{name}: baseline in a list", call([cube()] * 2, baseline=[0, "x"]), TypeError, "baseline str"),
    ]
] + [
    ("boxes: baseline NaN", boxes(baseline=NAN), ValueError, "baseline nan"),
    ("hyper: baseline NaN", hyper(baseline=NAN, num_perturbed_bands=3), ValueError, "baseline nan"),
]

OUTPUTS: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("all: another word", boxes(target="every"), ValueError, "target 'all' 'every'"),
    ("per_target: an index", boxes(target=1, per_target=True), TypeError, "per_target 'all' 1"),
    ("per_target: none", boxes(target=None, per_target=True), TypeError, "per_target 'all' None"),
    ("per_target: empty list", boxes(target=[], per_target=True), TypeError, "per_target 'all' []"),
    ("per_target: tuple", boxes(target=(0, 1), per_target=True), TypeError, "per_target 'all' (0, 1)"),
    ("per_target: out of range", boxes(target=[0, 3], per_target=True), IndexError, "target 3 3 outputs"),
    ("per_target: fraction", boxes(target=[0, 0.5], per_target=True), TypeError, "target 0.5"),
    ("per_target: bands", bands(target=[0, -4], per_target=True), IndexError, "target -4 3 outputs"),
    ("tunnel: all targets", noise(target="all"), TypeError, "target 'all'"),
]

TUNNELS: list[tuple[str, Callable[[], Any], Any, str]] = [
    row
    for name, call in [("noise", noise), ("hyper", hyper)]
    for row in [
        (f"{name}: n_samples zero", call(n_samples=0), ValueError, "n_samples 0"),
        (f"{name}: n_samples fraction", call(n_samples=2.5), TypeError, "n_samples 2.5"),
        (
            f"{name}: method unknown",
            call(method="smooth"),
            ValueError,
            "method smoothgrad vargrad 'smooth'",
        ),
        (f"{name}: tolerance negative", call(tolerance=-0.1), ValueError, "tolerance positive -0.1"),
        (f"{name}: tolerance of vargrad", call(tolerance=0.1, method="vargrad"), ValueError, "tolerance vargrad"),
        (
            f"{name}: error, vargrad",
            call(standard_error=True, method="vargrad"),
            ValueError,
            "vargrad",
        ),
        (f"{name}: error of one", call(standard_error=True, n_samples=1), ValueError, "standard_error n_samples 2"),
    ]
] + [
    ("n_samples: negative", noise(n_samples=-5), ValueError, "n_samples -5"),
    ("n_samples: none", hyper(n_samples=None), TypeError, "n_samples None"),
    ("n_samples: beyond 64 bits", noise(n_samples=10**30), (ValueError, OverflowError), ""),
    ("method: none", hyper(method=None), ValueError, "method smoothgrad None"),
    ("method: capitals", noise(method="SmoothGrad"), ValueError, "method 'SmoothGrad'"),
    ("tolerance: zero", hyper(tolerance=0), ValueError, "tolerance positive 0"),
    ("tolerance: NaN", noise(tolerance=NAN), ValueError, "tolerance positive nan"),
    ("tolerance: text", hyper(tolerance="low"), (TypeError, ValueError), "tolerance 'low'"),
    ("stdevs: negative", noise(stdevs=-1.0), ValueError, "stdevs -1.0"),
    ("stdevs: text", noise(stdevs="1"), TypeError, "stdevs '1'"),
    ("stdevs: none", noise(stdevs=None), TypeError, "stdevs None"),
    ("stdevs: list too long", noise(stdevs=[1.0, 2.0]), ValueError, "stdevs 2 1 images"),
    ("stdevs: tuple too short", noise([cube()] * 3, stdevs=(1.0, 2.0)), ValueError, "stdevs 2 3 images"),
    ("stdevs: empty", noise(stdevs=[]), ValueError, "stdevs 0 1 images"),
    ("stdevs: text in a list", noise(stdevs=["1"]), TypeError, "stdevs '1'"),
    ("stdevs: negative in a list", noise([cube()] * 2, stdevs=[1.0, -2.0]), ValueError, "stdevs -2.0"),
    ("stdevs: NaN", noise(stdevs=NAN), ValueError, "stdevs nan"),
    ("stdevs: NaN in a list", noise([cube()] * 2, stdevs=[1.0, NAN]), ValueError, "stdevs nan"),
    ("stdevs: infinite", noise(stdevs=INF), ValueError, "stdevs inf"),
    ("stdevs: too large", noise(stdevs=10**400), ValueError, "stdevs"),
    ("axis: four", noise(perturbation_axis=(0, 0, 0, 0)), IndexError, "perturbation_axis 4 3"),
    ("axis: out of range", noise(perturbation_axis=(5,)), IndexError, "perturbation_axis 5"),
    ("axis: too negative", noise(perturbation_axis=(0, -5)), IndexError, "perturbation_axis -5 4"),
    ("axis: beyond 64 bits", noise(perturbation_axis=(10**30,)), IndexError, "perturbation_axis"),
    ("axis: int", noise(perturbation_axis=1), TypeError, "perturbation_axis tuple 1"),
    ("axis: list", noise(perturbation_axis=[1]), TypeError, "perturbation_axis tuple [1]"),
    ("axis: fraction", noise(perturbation_axis=(0.5,)), TypeError, "perturbation_axis 0.5"),
    ("axis: text", noise(perturbation_axis=("C",)), TypeError, "perturbation_axis 'C'"),
    ("axis: none inside", noise(perturbation_axis=(None,)), TypeError, "perturbation_axis None"),
    ("axis: bool", noise(perturbation_axis=(True,)), TypeError, "perturbation_axis True"),
    ("axis: slice of text", noise(perturbation_axis=(slice("a", "b"),)), TypeError, ""),
    ("axis: step zero", noise(perturbation_axis=(slice(None, None, 0),)), ValueError, "zero"),
    ("probability: too large", hyper(perturbation_prob=1.01), ValueError, "perturbation_prob 1.01"),
    ("probability: negative", hyper(perturbation_prob=-0.01), ValueError, "perturbation_prob -0.01"),
    ("probability: NaN", hyper(perturbation_prob=NAN), ValueError, "perturbation_prob nan"),
    ("probability: text", hyper(perturbation_prob="half"), (TypeError, ValueError), "perturbation_prob 'half'"),
    ("probability: none", hyper(perturbation_prob=None), (TypeError, ValueError), "perturbation_prob None"),
    ("bands: too many", hyper(num_perturbed_bands=6), ValueError, "num_perturbed_bands 5 6"),
    ("bands: negative", hyper(num_perturbed_bands=-1), ValueError, "num_perturbed_bands -1"),
    ("bands: fraction", hyper(num_perturbed_bands=2.5), TypeError, "num_perturbed_bands 2.5"),
    ("bands: text", hyper(num_perturbed_bands="all"), TypeError, "num_perturbed_bands 'all'"),
    ("bands: beyond 64 bits", hyper(num_perturbed_bands=10**30), ValueError, "num_perturbed_bands"),
    ("tunnel: a model", lambda: NoiseTunnel(explainable(FINE)), RuntimeError, "Explainer ExplainableModel"),
    ("tunnel: a function", lambda: HyperNoiseTunnel(FINE), RuntimeError, "Explainer Sequential"),
    ("tunnel: nothing", lambda: NoiseTunnel(None), RuntimeError, "Explainer NoneType"),
    ("tunnel: of a tunnel", lambda: NoiseTunnel(NoiseTunnel(Saliency(explainable(FINE)))), ValueError, "chain"),
    ("tunnel: of a chain", lambda: HyperNoiseTunnel(Saliency(Saliency(explainable(FINE)))), ValueError, "chain"),
    (
        "tunnel: around the base class",
        lambda: NoiseTunnel(Explainer(explainable(FINE))).attribute(cube(), target=0),
        TypeError,
        "Noise Tunnel Saliency Occlusion Explainer",
    ),
    ("choice: too many", lambda: torch_random_choice(3, 4, 1), ValueError, "4 3"),
    ("choice: fraction", lambda: torch_random_choice(3.0, 1, 1), TypeError, "int 3.0"),
    ("choice: negative", lambda: torch_random_choice(3, -1, 1), ValueError, "negative"),
    ("perturb: two axes", lambda: NoiseTunnel.perturb_input(values()[0]), (TypeError, ValueError), "3"),
    ("perturb: not a tensor", lambda: NoiseTunnel.perturb_input([1.0]), TypeError, "Tensor list"),
    ("perturb: baseline", lambda: HyperNoiseTunnel.perturb_input(values(), 0.5), TypeError, "baseline float"),
    ("perturb: no baseline", lambda: HyperNoiseTunnel.perturb_input(values()), ValueError, "baseline None"),
    (
        "perturb: input of two axes",
        lambda: HyperNoiseTunnel.perturb_input(values()[0], values()),
        ShapeMismatchError,
        "(4, 3) (5, 4, 3)",
    ),
    (
        "perturb: baseline of two axes",
        lambda: HyperNoiseTunnel.perturb_input(values(), values()[0]),
        ValueError,
        "(4, 3)",
    ),
]

MODELS: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("model: raises", model(raising), ZeroDivisionError, "the user's own words"),
    ("model: returns none", model(lambda x: None), TypeError, "Tensor NoneType"),
    ("model: returns a number", model(lambda x: 1.0), TypeError, "Tensor float"),
    ("model: other batch", model(lambda x: torch.zeros(7, 2) + 0 * x.sum()), RuntimeError, "(n,) (7, 2)"),
    ("model: no outputs", model(lambda x: x.flatten(1)[:, :0], target=0), IndexError, "target 0 (n, 0)"),
    ("model: complex", model(lambda x: total(x).to(torch.complex64)), TypeError, "real omplex"),
    (
        "model: all of no outputs",
        lambda: Occlusion(explainable(lambda x: x.flatten(1)[:, :0])).attribute(cube(), "all"),
        (RuntimeError, IndexError, ValueError),
        "output",
    ),
]
TABLE = WINDOWS + SHARED + BASELINES + OUTPUTS + TUNNELS + MODELS


@pytest.mark.parametrize(
    ("call", "error", "words", "native"),
    first_table.cases(TABLE, lambda name: name.startswith(("model:", "per_target: out"))),
)
def test_bad_input(call: Callable[[], Any], error: Any, words: str, native: bool) -> None:
    first_table.test_bad_input(call, error, words, native)


def test_image_and_explainers_are_as_before_after_all_of_them() -> None:
    """One image and one explainer of each kind go through every call that fails."""
    image = cube(binary_mask=torch.ones(SHAPE).bool())
    explained = explainable(convolutional())
    failing: list[tuple[Any, list[dict[str, Any]]]] = [
        (
            Occlusion(explained),
            [
                {"sliding_window_shapes": 9},
                {"strides": 0},
                {"baseline": NAN},
                {"baseline": values()[0]},
                {"target": [0, 9], "per_target": True},
            ],
        ),
        (NoiseTunnel(IntegratedGradients(explained)), [{"n_samples": 0}, {"stdevs": -1.0}, {"method": "mean"}]),
        (HyperNoiseTunnel(Occlusion(explained)), [{"perturbation_prob": 2}, {"baseline": NAN}, {"tolerance": -1}]),
    ]
    everywhere = [{"target": 3}, {"additional_forward_args": 1}, {"show_progress": lambda done, to_do: 1 / 0}]
    for explainer, table in failing:
        torch.manual_seed(1)
        wanted = explainer.attribute(image, target=0).attributes
        for arguments in table + everywhere:
            with pytest.raises((TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError)):
                explainer.attribute(image, **{"target": 0, **arguments})
            assert image == cube(binary_mask=torch.ones(SHAPE).bool())
            assert image.image._version == 0
            torch.manual_seed(1)
            torch.testing.assert_close(explainer.attribute(image, target=0).attributes, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("inner", "path"),
    each_value([Saliency, IntegratedGradients, Occlusion, IntegratedGradients], ["plain", "shortcut", "python calls"]),
    ids=name_of,
)
def test_a_billion_samples_take_no_memory_and_can_be_stopped(inner: type, path: str) -> None:
    def stop(done: int, to_do: int) -> None:
        told.append((done, to_do))
        if len(told) > 1:
            raise InterruptedError("enough")

    each = {Saliency: 1, IntegratedGradients: 50, Occlusion: 61}[inner]
    told: list[tuple[int, int]] = []
    before = first_table.peak_megabytes()
    with mt.options(**PATHS[path]), pytest.raises(InterruptedError):
        NoiseTunnel(inner(explainable(FINE))).attribute(cube(), target=0, n_samples=10**9, show_progress=stop)
    assert told[-1][1] == each * 10**9
    assert first_table.peak_megabytes() - before < 300


def test_a_failing_model_leaves_nothing_behind() -> None:
    """Calls that fail amid a run, on images of 2 MB."""
    image = mt.HSI(image=torch.ones(64, 64, 64, dtype=torch.float64), wavelengths=list(range(1, 65)))

    def poisoned(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return total(x) * (NAN if len(calls) % 3 == 0 else 1.0)

    def work() -> None:
        for explainer in (Occlusion(explainable(poisoned)), NoiseTunnel(Saliency(explainable(poisoned)))):
            windows = {"sliding_window_shapes": 32, "strides": 32} if isinstance(explainer, Occlusion) else {}
            with mt.options(finite="raise"), pytest.raises(FloatingPointError, match="NaN"):
                explainer.attribute(image, **windows)

    calls: list[int] = []
    work()
    before = first_table.peak_megabytes()
    for _ in range(20):
        work()
    assert first_table.peak_megabytes() - before < 30
