"""Progress while a run goes on, and the report of what it did."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import meteors_c as mt
from meteors_c.attr import InputXGradient, IntegratedGradients, Saliency
from tests.toys import (
    COMPANY,
    PATHS,
    SHAPE,
    Watched,
    assert_declined,
    assert_shortcut,
    convolutional,
    cube,
    each_value,
    evaluated,
    explainable,
    smooth,
    traced,
)

each_path = pytest.mark.parametrize("path", PATHS)

# ---------------------------------------------------------------- progress


@pytest.mark.parametrize(("path", "delta", "total"), each_value(PATHS, [True, False, True], [64, 60, 64]))
def test_a_callback_is_told_what_is_done_and_to_do(path: str, delta: bool, total: int) -> None:
    told: list[tuple[int, int]] = []
    with mt.options(**PATHS[path]):
        IntegratedGradients(explainable(convolutional())).attribute(
            [cube(0), cube(1)],
            target=0,
            n_steps=30,
            internal_batch_size=7,
            return_convergence_delta=delta,
            show_progress=lambda done, to_do: told.append((done, to_do)),
        )
    assert told[-1] == (total, total)
    assert {to_do for _, to_do in told} == {total}
    done = [done for done, _ in told]
    assert done == sorted(set(done))
    assert done[0] == 0


@pytest.mark.parametrize("method", [Saliency, InputXGradient])
def test_the_other_methods_count_images(method: Any) -> None:
    told: list[tuple[int, int]] = []
    images = [cube(i) for i in range(3)]
    method(explainable(smooth())).attribute(images, target=0, show_progress=lambda *counts: told.append(counts))
    assert told[-1] == (3, 3)


@each_path
def test_exceptions_of_the_callback_pass_and_stop_the_run(path: str) -> None:
    model, error = Watched(convolutional()), LookupError("enough")

    def stop(done: int, total: int) -> None:
        raise error

    explainer = IntegratedGradients(explainable(model))
    with mt.options(**PATHS[path]):
        with pytest.raises(LookupError) as caught:
            explainer.attribute(cube(), target=0, n_steps=100, internal_batch_size=1, show_progress=stop)
        assert caught.value is error
        assert len(model.sizes) < 20
        assert explainer.attribute(cube(), target=0).attributes.any()


def test_a_bar_is_shown_on_true_alone(capsys: pytest.CaptureFixture[str]) -> None:
    explainer = IntegratedGradients(explainable(smooth()))
    explainer.attribute(cube(), target=0)
    assert capsys.readouterr() == ("", "")
    explainer.attribute(cube(), target=0, n_steps=20, show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Integrated Gradients" in err
    assert "20/20" in err


def test_the_bar_is_closed_when_the_model_raises(capsys: pytest.CaptureFixture[str]) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Saliency(explainable(model)).attribute(cube(), show_progress=True)
    assert capsys.readouterr().err.endswith("\n")


def test_progress_does_not_change_the_numbers() -> None:
    explainer = IntegratedGradients(explainable(smooth()))
    with mt.options(threads="all", shortcuts=False):  # other threads, or a shortcut where time says so, round otherwise
        told = explainer.attribute(cube(), target=0, internal_batch_size=3, show_progress=lambda done, total: None)
        untold = explainer.attribute(cube(), target=0, internal_batch_size=3)
    torch.testing.assert_close(told.attributes, untold.attributes, rtol=0, atol=0)


# ---------------------------------------------------------------- report


@pytest.mark.parametrize(("path", "delta"), [("plain", True), ("python calls", False)])
def test_counts_are_those_of_the_model(path: str, delta: bool) -> None:
    model, images = Watched(convolutional()), [cube(i) for i in range(3)]
    with mt.options(**PATHS[path]):
        results = IntegratedGradients(explainable(model)).attribute(
            images, target=0, n_steps=11, internal_batch_size=4, return_convergence_delta=delta
        )
    report = results[0].report
    assert all(result.report is report for result in results)
    assert report.method == "Integrated Gradients"
    assert report.images == 3
    assert report.evaluations == 33 + (6 if delta else 0)
    assert sum(model.sizes) == evaluated(report)
    assert report.evaluations_verifying == 1 + COMPANY.get(path, 0)
    assert report.model_calls == len(model.sizes) - 1 - COMPANY.get(path, 0) // 2
    assert report.chunk_first == model.sizes[0] == 4
    assert report.chunk_largest == max(model.sizes) == 4
    assert 1 <= report.chunk_size <= 4
    assert report.evaluations_saved == 0
    assert_declined(report, "switched_off" if path == "plain" else "not_offered")


def test_a_shortcut_is_named_and_counted() -> None:
    with mt.options(shortcuts="always"):
        report = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0, n_steps=40).report
    assert_shortcut(report, "affine prefix", 40)
    assert report.shortcut in repr(report)


def test_what_is_switched_off_is_said() -> None:
    with mt.options(shortcuts=False):
        report = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0).report
    assert_declined(report, "switched_off")
    assert report.shortcut_declined in repr(report)


@pytest.mark.parametrize(
    ("model", "path", "words"),
    [
        (convolutional(), "shortcut", "torch"),
        (convolutional(), "python calls", "torch through Python calls"),
        (traced(convolutional()), "shortcut", "TorchScript"),
    ],
    ids=["torch", "python calls", "TorchScript"],
)
def test_how_the_model_was_driven(model: Any, path: str, words: str) -> None:
    with mt.options(**PATHS[path]):
        report = Saliency(explainable(model)).attribute(cube(), target=0).report
    assert report.model == words
    assert words in repr(report)


def test_time_is_split_between_the_model_and_the_rest() -> None:
    report = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0).report
    assert 0 <= report.seconds_in_model <= report.seconds
    assert report.seconds_outside_model == pytest.approx(report.seconds - report.seconds_in_model)
    assert report.overhead * report.seconds_in_model == pytest.approx(report.seconds_outside_model)


def test_a_report_is_plain_data() -> None:
    report = Saliency(explainable(smooth())).attribute(cube(), target=0).report
    assert pickle.loads(pickle.dumps(report)) == report
    assert copy.deepcopy(report) == report
    fields = report.to_dict()
    assert fields["evaluations"] == fields["model_calls"] == 1
    assert {type(value) for value in fields.values()} <= {str, int, float, type(None)}
    for word in ("evaluations", "chunk", "time", "memory", "shortcut"):
        assert word in repr(report)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(("path", "method"), each_value(PATHS, ["gausslegendre", "riemann_middle"]))
def test_memory_does_not_depend_on_the_number_of_steps(path: str, method: str) -> None:
    def peak(n_steps: int) -> int:
        with mt.options(**PATHS[path]):
            found = IntegratedGradients(explainable(smooth())).attribute(
                cube(), 0.5, 0, n_steps=n_steps, internal_batch_size=5, method=method, return_convergence_delta=True
            )
        return found.report.peak_bytes

    assert 0 < peak(10) == peak(1000)


def test_memory_is_accumulators_and_one_chunk() -> None:
    size = int(np.prod(SHAPE))
    with mt.options(shortcuts=False):
        report = (
            IntegratedGradients(explainable(smooth()))
            .attribute(cube(binary_mask=torch.ones(SHAPE)), 0.5, 0, n_steps=100, internal_batch_size=10)
            .report
        )
    assert 10 * size * 8 <= report.peak_bytes <= (10 + 3) * size * 8 + 256


@pytest.mark.parametrize("path", ["plain", "python calls"])
def test_the_memory_limit_bounds_the_chunk(path: str) -> None:
    model, sample = Watched(smooth()), int(np.prod(SHAPE)) * 8
    with mt.options(memory_limit=50 * sample, **PATHS[path]):
        report = IntegratedGradients(explainable(model)).attribute(cube(), target=0, n_steps=100).report
    assert max(model.sizes) <= 50
    assert report.peak_bytes <= 50 * sample
    with mt.options(memory_limit=1, **PATHS[path]):
        IntegratedGradients(explainable(model)).attribute(cube(), target=0, n_steps=3)
    assert model.sizes[-3:] == [1, 1, 1]
