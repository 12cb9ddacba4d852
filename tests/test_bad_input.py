"""One table of what may be given wrong: each is a clear error, and everything is as usable afterwards as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from benchmarks.memory import peak_bytes
from meteors_c.attr import InputXGradient, IntegratedGradients, Saliency
from meteors_c.exceptions import DeviceError, OrientationError, ShapeMismatchError, ValidationError
from meteors_c.models import ExplainableModel
from tests.toys import METHODS, PATHS, SHAPE, WAVELENGTHS, convolutional, cube, each_value, explainable, smooth, values

NAN, INF = float("nan"), float("inf")
FINE = smooth()


def hsi(**fields: Any) -> Callable[[], Any]:
    return lambda: mt.HSI(**{"image": values(), "wavelengths": WAVELENGTHS, **fields})


def turned(target: Any) -> Callable[[], Any]:
    return lambda: cube().change_orientation(target)


def saliency(image: Any = None, **arguments: Any) -> Callable[[], Any]:
    image = cube() if image is None else image
    return lambda: Saliency(explainable(FINE)).attribute(image, **{"target": 0, **arguments})


def integrated(image: Any = None, **arguments: Any) -> Callable[[], Any]:
    image = cube() if image is None else image
    return lambda: IntegratedGradients(explainable(FINE)).attribute(image, **{"target": 0, **arguments})


def model(function: Any, **arguments: Any) -> Callable[[], Any]:
    """All methods on a model; the error must come from the first and from the last."""

    def call() -> None:
        for method in (InputXGradient, IntegratedGradients):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - raised again below
                method(ExplainableModel(function, "regression")).attribute([cube(), cube(1)], **arguments)
        raise caught.value

    return call


def total(x: torch.Tensor) -> torch.Tensor:
    return x.sum((1, 2, 3))


@torch.no_grad()
def without_gradient(x: torch.Tensor) -> torch.Tensor:
    return total(x)


def raising(x: torch.Tensor) -> torch.Tensor:
    raise ZeroDivisionError("the user's own words")


SHAPE_WORDS = "(5, 4, 3)"
IMAGES: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("image: a list", hsi(image=[[[1.0]]]), TypeError, "Image must be list"),
    ("image: none", hsi(image=None), TypeError, "Image must be NoneType"),
    ("image: text", hsi(image="field.npz"), TypeError, "Image must be str"),
    ("image: two axes", hsi(image=values()[0]), TypeError, "Image 3-D [4, 3]"),
    ("image: four axes", hsi(image=values()[None]), TypeError, "Image 3-D [1, 5, 4, 3]"),
    ("image: empty", hsi(image=torch.zeros(5, 0, 3)), ValidationError, "Image [5, 0, 3]"),
    ("image: complex", hsi(image=torch.zeros(SHAPE, dtype=torch.complex64)), TypeError, "Image real complex64"),
    ("image: objects", hsi(image=np.full(SHAPE, None)), TypeError, "Image real object"),
    ("image: strings", hsi(image=np.full(SHAPE, "a")), TypeError, "Image real"),
    ("image: without values", hsi(image=torch.zeros(SHAPE, device="meta")), DeviceError, "Image meta"),
    ("image: sparse", hsi(image=values().to_sparse()), (TypeError, ValidationError), "Image sparse"),
    ("wavelengths: none", hsi(wavelengths=None), TypeError, "wavelengths NoneType"),
    ("wavelengths: text", hsi(wavelengths="450-800"), TypeError, "wavelengths"),
    ("wavelengths: texts", hsi(wavelengths=["450"] * 5), TypeError, "wavelengths"),
    ("wavelengths: too few", hsi(wavelengths=WAVELENGTHS[:4]), ShapeMismatchError, "4 5"),
    ("wavelengths: other axis", hsi(wavelengths=WAVELENGTHS, orientation="HWC"), ShapeMismatchError, "5 3"),
    ("wavelengths: two axes", hsi(wavelengths=torch.zeros(1, 5)), ValidationError, "wavelengths"),
    ("orientation: letters", hsi(orientation="CHX"), OrientationError, "orientation CHX"),
    ("orientation: too few", hsi(orientation=("C", "H")), OrientationError, "orientation C H"),
    ("orientation: twice", hsi(orientation="CCH"), OrientationError, "orientation CCH"),
    ("orientation: number", hsi(orientation=3), OrientationError, "orientation 3"),
    ("device: unknown", hsi(device="gpu9"), DeviceError, "gpu9"),
    ("device: number", hsi(device=1.5), TypeError, "device"),
    ("mask: text", hsi(binary_mask="real"), ValueError, "artificial real"),
    ("mask: number", hsi(binary_mask=3), TypeError, "Binary mask must be int"),
    ("mask: shape", hsi(binary_mask=torch.ones(5, 4, 4)), ShapeMismatchError, f"(5, 4, 4) {SHAPE_WORDS}"),
    ("change_orientation: letters", turned("CHX"), ValueError, "orientation CHX"),
    ("change_orientation: none", turned(None), ValueError, "orientation None"),
    ("band: unknown", lambda: cube().extract_band_by_name("X9"), mt.exceptions.BandSelectionError, "X9 not found"),
    ("band: outside", lambda: cube().extract_band_by_name("S1"), mt.exceptions.BandSelectionError, "S1 1550 800"),
    ("band: method", lambda: cube().extract_band_by_name("R", "mean"), NotImplementedError, "mean center"),
]

MODELS: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("problem type: unknown", lambda: ExplainableModel(FINE, "guess"), ValueError, "problem_type guess regression"),
    ("problem type: number", lambda: ExplainableModel(FINE, 1), TypeError, "problem_type int"),
    ("segmentation alone", lambda: ExplainableModel(FINE, "segmentation"), ValueError, "postprocessing_output"),
    ("explainer of a function", lambda: Saliency(FINE), TypeError, "ExplainableModel Sequential"),
    ("explainer: chain", lambda: Saliency(Saliency(Saliency(explainable(FINE)))), ValueError, "chain"),
    ("model: not callable", model(3), TypeError, "forward_func callable int"),
    ("model: raises", model(raising), ZeroDivisionError, "the user's own words"),
    ("model: wants more", model(lambda x, y: total(x)), TypeError, "missing 'y'"),
    ("model: wants less", model(total, additional_forward_args=(1,)), TypeError, "positional 2"),
    ("model: other image shape", model(nn.Linear(99, 1).double().eval()), RuntimeError, "shapes 99"),
    ("model: other device", model(smooth(1).to("meta")), RuntimeError, "meta"),
    ("model: returns a list", model(lambda x: [1.0]), TypeError, "Tensor list"),
    ("model: returns none", model(lambda x: None), TypeError, "Tensor NoneType"),
    ("model: returns a number", model(lambda x: 1.0), TypeError, "Tensor float"),
    ("model: returns an array", model(lambda x: total(x).detach().numpy()), TypeError, "Tensor ndarray"),
    (
        "model: returns two tensors",
        model(lambda x: (total(x), x)),
        TypeError,
        "Tensor tuple 0 1 postprocessing_output",
    ),
    (
        "model: returns a dict",
        model(lambda x: {"soil": total(x), "grass": total(x)}),
        TypeError,
        "Tensor dict soil grass postprocessing_output",
    ),
    ("model: returns an empty tuple", model(lambda x: ()), TypeError, "Tensor tuple"),
    ("model: other batch", model(lambda x: torch.zeros(7, 2, requires_grad=True)), RuntimeError, "(n,) (7, 2)"),
    ("model: no samples", model(lambda x: total(x)[:0]), RuntimeError, "(n,) (0,)"),
    ("model: no outputs", model(lambda x: x.flatten(1)[:, :0], target=0), IndexError, "target 0 (n, 0)"),
    ("model: complex", model(lambda x: total(x).to(torch.complex64)), TypeError, "real omplex"),
    ("model: integers", model(lambda x: total(x).long()), RuntimeError, "gradient"),
    ("model: detached", model(lambda x: total(x).detach()), RuntimeError, "cut off gradient"),
    ("model: no_grad", model(without_gradient), RuntimeError, "cut off gradient"),
    ("model: constant", model(lambda x: torch.ones(len(x), requires_grad=True)), RuntimeError, "depend gradient"),
    ("model: meta outputs", model(lambda x: total(x).to("meta")), RuntimeError, "meta"),
    (
        "model: arrays",
        lambda: Saliency(ExplainableModel(np.sum, "regression", array_input=True)).attribute(cube()),
        RuntimeError,
        "differentiated",
    ),
]

ARGUMENTS: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("hsi: text", saliency("field"), TypeError, "HSI str"),
    ("hsi: tensor", saliency(values()), TypeError, "HSI Tensor"),
    ("hsi: none", lambda: Saliency(explainable(FINE)).attribute(None), TypeError, "HSI NoneType"),
    ("hsi: mixed list", saliency([cube(), 1]), TypeError, "HSI int"),
    ("hsi: tuple", saliency((cube(), cube())), TypeError, "HSI list tuple"),
    ("hsi: empty list", saliency([]), ValueError, "HSI empty"),
    (
        "hsi: two shapes",
        saliency([cube(), cube(image=values(shape=(5, 4, 2)))]),
        ShapeMismatchError,
        f"shape {SHAPE_WORDS} (5, 4, 2)",
    ),
    ("hsi: NaN", saliency(cube(image=values() * NAN)), ValueError, "NaN image 0 band row column 60"),
    ("target: missing", saliency(target=None), ValueError, "target None (n, 3)"),
    ("target: too large", saliency(target=3), IndexError, "target 3 3 outputs"),
    ("target: too negative", saliency(target=-4), IndexError, "target -4 3 outputs"),
    ("target: beyond 64 bits", saliency(target=10**30), IndexError, f"target {10**30}"),
    ("target: too many axes", saliency(target=(0, 1)), ValueError, "target 2 (n, 3)"),
    ("target: far too many axes", saliency(target=(0,) * 9), (TypeError, ValueError), "target 8"),
    ("target: fraction", saliency(target=1.5), TypeError, "target 1.5 int"),
    ("target: text", saliency(target="soil"), TypeError, "target soil int"),
    ("target: tensor of fractions", saliency(target=torch.tensor(1.0)), TypeError, "target int"),
    ("target: matrix", saliency(target=torch.zeros(1, 1).long()), ValueError, "target (1, 1)"),
    ("target: list too long", saliency(target=[0, 1]), ValueError, "target 2 1 images"),
    ("target: list too short", saliency([cube(), cube(), cube()], target=[0, 1]), ValueError, "target 2 3 images"),
    ("target: one of a list", saliency([cube(), cube()], target=[0, 9]), IndexError, "target 9 3 outputs"),
    ("target: list in a list", saliency(target=[[0]]), TypeError, "target [0]"),
    ("baseline: text", integrated(baseline="dark"), TypeError, "baseline str"),
    ("baseline: array of objects", integrated(baseline=np.full(SHAPE, None)), TypeError, "baseline real object"),
    ("baseline: masked array", integrated(baseline=np.ma.zeros(SHAPE)), TypeError, "baseline MaskedArray"),
    ("baseline: array shape", integrated(baseline=np.zeros((4, 3))), ShapeMismatchError, f"{SHAPE_WORDS} (4, 3)"),
    ("baseline: spectrum of four", integrated(baseline=np.zeros(4)), ShapeMismatchError, "baseline 5 bands (4,)"),
    ("baseline: spectrum as a list", integrated(baseline=[0.0] * 5), ValueError, "baseline 5 1 images"),
    ("baseline: sparse", integrated(baseline=values().to_sparse()), TypeError, "baseline sparse"),
    ("baseline: without values", integrated(baseline=values().to("meta")), TypeError, "baseline meta"),
    ("baseline: no valid pixel", integrated(cube(binary_mask=torch.zeros(SHAPE)), baseline="mean"), ValueError, "mean"),
    ("baseline: tuple", integrated([cube()] * 2, baseline=(0, 1)), TypeError, "baseline tuple"),
    ("baseline: complex", integrated(baseline=values().to(torch.complex64)), TypeError, "baseline real complex64"),
    ("baseline: complex number", integrated(baseline=1j), TypeError, "baseline complex"),
    ("baseline: shape", integrated(baseline=values()[0]), ShapeMismatchError, f"baseline {SHAPE_WORDS} (4, 3)"),
    ("baseline: list length", integrated(baseline=[0, 1]), ValueError, "baseline 2 1 images"),
    ("baseline: in a list", integrated([cube()] * 2, baseline=[0, "x"]), TypeError, "baseline str"),
    ("baseline: too large", integrated(baseline=10**400), ValueError, "baseline"),
    ("baseline: NaN", integrated(baseline=NAN), ValueError, "baseline nan"),
    ("baseline: infinite", integrated(baseline=INF), ValueError, "baseline inf"),
    (
        "baseline: NaN of an image",
        integrated(baseline=values().masked_fill(values() > 0.5, NAN)),
        ValueError,
        "baseline nan band row column more",
    ),
    ("baseline: infinite band", integrated(baseline=np.array([0, 0, 0, INF, 0])), ValueError, "baseline inf band 3"),
    (
        "baseline: too large for the image",
        integrated(cube(dtype=torch.float32), baseline=1e39),
        ValueError,
        "baseline float32 1e+39",
    ),
    ("n_steps: zero", integrated(n_steps=0), ValueError, "n_steps 0"),
    ("n_steps: negative", integrated(n_steps=-3), ValueError, "n_steps -3"),
    ("n_steps: fraction", integrated(n_steps=2.5), TypeError, "n_steps 2.5"),
    ("n_steps: none", integrated(n_steps=None), TypeError, "n_steps None"),
    ("n_steps: Riemann with one", integrated(n_steps=1, method="riemann_left"), ValueError, "n_steps 1 riemann_left"),
    ("n_steps: Gauss with 10^9", integrated(n_steps=10**9), ValueError, f"n_steps {10**9} gausslegendre riemann"),
    ("n_steps: beyond 64 bits", integrated(n_steps=10**30), ValueError, "n_steps"),
    ("method: unknown", integrated(method="simpson"), ValueError, "method simpson gausslegendre riemann_trapezoid"),
    ("method: none", integrated(method=None), TypeError, "method None"),
    ("method: cut off", integrated(method="riemann_left\0"), ValueError, "method riemann_left"),
    ("internal_batch_size: zero", integrated(internal_batch_size=0), ValueError, "internal_batch_size 0"),
    ("internal_batch_size: fraction", integrated(internal_batch_size=0.5), TypeError, "internal_batch_size 0.5"),
    ("internal_batch_size: text", integrated(internal_batch_size="2"), TypeError, "internal_batch_size '2'"),
    ("show_progress: number", integrated(show_progress=3), TypeError, "show_progress 3"),
]


def enter(**changes: Any) -> Callable[[], Any]:
    def call() -> None:
        with mt.options(**changes):
            pass

    return call


OPTIONS: list[tuple[str, Callable[[], Any], Any, str]] = [
    ("options: shortcuts", enter(shortcuts=1), TypeError, "shortcuts 1"),
    ("options: shortcuts text", enter(shortcuts="never"), TypeError, "shortcuts 'always' 'never'"),
    ("options: native", enter(native="no"), TypeError, "native no"),
    ("options: memory_limit", enter(memory_limit=1.5), TypeError, "memory_limit 1.5"),
    ("options: batch", enter(batch="many"), TypeError, "batch many"),
    ("options: batch zero", enter(batch=0), ValueError, "batch 0"),
    ("options: memory_limit zero", enter(memory_limit=0), ValueError, "memory_limit 0"),
    ("options: finite", enter(finite="maybe"), ValueError, "finite warn raise ignore 'maybe'"),
    ("options: tune_allocator", enter(tune_allocator=0), TypeError, "tune_allocator 0"),
    ("options: threads", enter(threads="some"), ValueError, "threads measured all 'some'"),
    ("options: threads number", enter(threads=2), ValueError, "threads measured all 2"),
    ("options: unknown", enter(fast=True), TypeError, "fast"),
]
TABLE = IMAGES + MODELS + ARGUMENTS + OPTIONS


# What a model may do otherwise through Python calls: what it returns is looked at there by other code.
RETURNED = ["none", "number", "other batch", "no samples", "no outputs", "complex", "integers", "detached"]
RETURNED += ["constant", "meta outputs", "raises", "missing", "too large", "too many axes", "one of a list"]


def cases(table: list[tuple[str, Callable[[], Any], Any, str]], twice: Callable[[str], bool]) -> list[Any]:
    """Each row natively, and once more through Python calls where its name says so."""
    ways = {True: table, False: [row for row in table if twice(row[0])]}
    return [
        pytest.param(*row[1:], native, id=row[0] if native else f"{row[0]}, python calls")
        for native, rows in ways.items()
        for row in rows
    ]


@pytest.mark.parametrize(
    ("call", "error", "words", "native"),
    cases(TABLE, lambda name: name.startswith(("model:", "target:")) and name.endswith(tuple(RETURNED))),
)
def test_bad_input(call: Callable[[], Any], error: Any, words: str, native: bool) -> None:
    with mt.options(native=native), pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for word in words.replace(", ", ",\0").split():
        assert word.replace("\0", " ") in message
    assert len(message) < 500
    assert torch.equal(FINE(values()[None]), smooth()(values()[None]))
    assert all(parameter.grad is None for parameter in FINE.parameters())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", values()[0]),
        ("image", None),
        ("wavelengths", "none"),
        ("orientation", "CHX"),
        ("binary_mask", "real"),
        ("device", "gpu9"),
    ],
)
def test_a_failed_setter_changes_nothing(name: str, value: Any) -> None:
    image = cube()
    before = image.image.clone(), image.wavelengths.clone(), image.orientation, image.binary_mask.clone()
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        setattr(image, name, value)
    assert torch.equal(image.image, before[0])
    assert torch.equal(image.wavelengths, before[1])
    assert image.orientation == before[2]
    assert torch.equal(image.binary_mask, before[3])


def test_image_and_explainer_are_as_before_after_all_of_them() -> None:
    """One image and one explainer go through every call that fails."""
    image = cube(binary_mask=torch.ones(SHAPE).bool())
    explainer = IntegratedGradients(explainable(convolutional()))
    wanted = explainer.attribute(image, 0.5, 0).attributes
    memory, version = image.image.data_ptr(), image.image._version
    failing: list[dict[str, Any]] = [
        {"target": 3},
        {"target": None},
        {"target": 0, "baseline": NAN},
        {"target": 0, "baseline": values()[0]},
        {"target": 0, "n_steps": 0},
        {"target": 0, "method": "simpson"},
        {"target": 0, "additional_forward_args": (1, 2)},
        {"target": 0, "show_progress": lambda done, to_do: 1 / 0},
    ]
    for arguments in failing:
        with pytest.raises((TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError)):
            explainer.attribute(image, **arguments)
        assert image == cube(binary_mask=torch.ones(SHAPE).bool())
        assert (image.image.data_ptr(), image.image._version) == (memory, version)
        torch.testing.assert_close(explainer.attribute(image, 0.5, 0).attributes, wanted, rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------- huge requests


def peak_megabytes() -> float:
    return peak_bytes() / (1 << 20)


def test_too_many_gauss_nodes_are_refused_before_any_is_computed() -> None:
    before = peak_megabytes()
    with pytest.raises(ValueError, match="n_steps"):
        integrated(n_steps=10**9)()
    assert peak_megabytes() - before < 20


@pytest.mark.parametrize(("method", "path"), each_value(METHODS[1:], PATHS))
def test_a_billion_riemann_steps_take_no_memory_and_can_be_stopped(method: str, path: str) -> None:
    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) > 1:
            raise InterruptedError("enough")

    told: list[tuple[int, int]] = []
    integrated(n_steps=100, method=method)()
    before = peak_megabytes()
    with mt.options(**PATHS[path]), pytest.raises(InterruptedError):
        integrated(n_steps=10**9, method=method, show_progress=stop)()
    assert told[-1][1] == 10**9
    assert peak_megabytes() - before < 200  # a chunk at its largest; a number for each step would be 8 GB


@pytest.mark.parametrize("size", [10**9, 10**30])
def test_a_huge_batch_size_is_only_a_bound(size: int) -> None:
    model = convolutional()
    found = IntegratedGradients(explainable(model)).attribute(cube(), target=0, internal_batch_size=size)
    wanted = IntegratedGradients(explainable(model)).attribute(cube(), target=0)
    torch.testing.assert_close(found.attributes, wanted.attributes)
    with mt.options(memory_limit=1 << 20, shortcuts=False):
        report = integrated(n_steps=10**4, internal_batch_size=size)().report
    assert report.peak_bytes < 1 << 20


def test_an_image_larger_than_memory_is_refused() -> None:
    """An expanded tensor stands for 20 TiB."""
    endless = cube(image=torch.zeros(1).expand(5, 1 << 20, 1 << 20))
    with pytest.raises(MemoryError):
        Saliency(explainable(lambda x: x.sum((1, 2, 3)))).attribute(endless)


@pytest.mark.parametrize("native", [True, False])
def test_nothing_is_leaked(native: bool) -> None:
    """Calls that fail early, amid the run and at its end, and calls that succeed, on images of 2 MB."""
    image = mt.HSI(image=torch.zeros(64, 64, 64, dtype=torch.float64), wavelengths=list(range(1, 65)))

    def poisoned(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return total(x) * (NAN if len(calls) % 3 == 0 else 1.0)

    def work() -> None:
        integrated_of = IntegratedGradients(explainable(poisoned))
        for arguments in ({"target": 3}, {"baseline": image.image[0]}, {"n_steps": 0}, {}, {"n_steps": 1}):
            try:
                integrated_of.attribute(image, **{"n_steps": 6, "internal_batch_size": 1, **arguments})
            except (ValueError, RuntimeError, IndexError):
                failures.append(1)

    calls: list[int] = []
    failures: list[int] = []
    with mt.options(native=native):
        work()
        before = peak_megabytes()
        for _ in range(20):
            work()
    assert len(failures) > 60
    assert peak_megabytes() - before < 30


def test_the_reason_of_a_torchscript_failure_is_said() -> None:
    inner = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(6)), nn.Linear(7, 2))
    traced = torch.jit.trace(nn.Sequential(nn.Sequential(inner)), torch.rand(1, 3, 5, 7))
    explainer = ExplainableModel(traced, "regression")
    image = mt.HSI(image=torch.rand(3, 5, 8), wavelengths=[400, 500, 600])
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        Saliency(explainer).attribute(image, target=(0, 0, 0))
