"""How many of torch's threads a run uses, and that nobody else notices."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import IntegratedGradients, Occlusion
from tests.toys import cube, explainable, smooth

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="the bridge has no OpenMP there")
ALL = 2


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(ALL)
    yield
    torch.set_num_threads(before)


class Waits(nn.Module):
    """Stands still, longer with several threads, as operators do whose threads wait for each other."""

    def __init__(self, at_one: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.body = smooth()
        self.at_one = at_one
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(torch.get_num_threads())
        time.sleep(0.03 if self.seen[-1] > 1 else 0.003)
        if self.seen[-1] == 1:
            self.at_one()
        return self.body(x)


def gradients(model: nn.Module, **options: Any) -> torch.Tensor:
    with mt.options(shortcuts=False, **options):
        return (
            IntegratedGradients(explainable(model))
            .attribute(cube(), target=0, n_steps=12, internal_batch_size=1)
            .attributes
        )


def outputs(model: nn.Module, **options: Any) -> torch.Tensor:
    with mt.options(shortcuts=False, **options):
        explainer = Occlusion(explainable(model))
        return explainer.attribute(cube(), 0, (1, 2, 2), (1, 1, 1), perturbations_per_eval=1).attributes


CALLS = [gradients, outputs]


@pytest.mark.parametrize("call", CALLS)
def test_a_run_goes_on_with_fewer_where_they_wait(call: Callable[..., torch.Tensor]) -> None:
    model = Waits()
    found = call(model)
    assert set(model.seen) <= {1, ALL}
    assert 1 <= model.seen.count(ALL) <= 3 or set(model.seen) == {1}
    assert torch.get_num_threads() == ALL
    torch.testing.assert_close(found, call(Waits(), threads="all"), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("call", CALLS)
def test_all_of_them_on_request(call: Callable[..., torch.Tensor]) -> None:
    model = Waits()
    call(model, threads="all")
    assert set(model.seen) == {ALL}


@pytest.mark.parametrize("most", [1, 3])
def test_the_users_number_is_the_most(most: int) -> None:
    torch.set_num_threads(most)
    model = Waits()
    gradients(model)
    assert max(model.seen) <= most
    assert torch.get_num_threads() == most


@pytest.mark.parametrize("call", CALLS)
def test_put_back_after_an_error(call: Callable[..., torch.Tensor]) -> None:
    def fail() -> None:
        raise RuntimeError("enough")

    model = Waits(fail)
    with pytest.raises(RuntimeError, match="enough"):
        call(model)
    assert model.seen[-1] == 1
    assert torch.get_num_threads() == ALL


def test_other_threads_keep_theirs() -> None:
    seen: list[int] = []

    def look() -> None:
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()

    gradients(Waits(look))
    assert seen
    assert set(seen) == {ALL}


def test_runs_in_several_threads_put_theirs_back() -> None:
    models, after = [Waits() for _ in range(3)], []

    def run(model: Waits) -> None:
        gradients(model)
        after.append(torch.get_num_threads())

    workers = [threading.Thread(target=run, args=(model,)) for model in models]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert after == [ALL] * len(models)
    assert all(1 in model.seen for model in models)


def test_a_number_that_the_model_sets_itself_stays() -> None:
    gradients(Waits(lambda: torch.set_num_threads(3)))
    assert torch.get_num_threads() == 3


def test_matrix_products_follow() -> None:
    # MKL has a number of its own, which torch.set_num_threads sets and which wins over that of OpenMP.
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    mkl = getattr(ctypes.CDLL(str(library)), "MKL_Get_Max_Threads", None) if library.is_file() else None
    if mkl is None or mkl() != ALL:
        pytest.skip("this torch has no MKL")
    seen: list[int] = []
    gradients(Waits(lambda: seen.append(mkl())))
    assert set(seen) == {1}
    assert mkl() == ALL
    torch.set_num_threads(3)
    assert mkl() == 3
