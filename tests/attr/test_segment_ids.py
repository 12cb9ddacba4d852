"""Ids in masks: whole numbers of any dtype are the same ids, and ids are numbered in ascending order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from meteors_c.attr._segment_ids import number_ids, whole_number_ids
from tests.toys import name_of

IDS = [[0, 3, 1], [1, 1, 7]]
DTYPES = [
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_whole_numbers_of_any_dtype_are_the_same_ids(dtype: torch.dtype) -> None:
    ids = whole_number_ids(torch.tensor(IDS).to(dtype), "mask")
    assert ids.dtype == torch.int64
    assert ids.tolist() == IDS


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "i8", "f2", "f4", ">f8"])
def test_arrays(dtype: str) -> None:
    assert whole_number_ids(np.array(IDS, dtype), "mask").tolist() == IDS
    assert whole_number_ids(np.array(IDS, dtype)[:, ::-1], "mask").tolist() == [row[::-1] for row in IDS]


def test_bool() -> None:
    assert whole_number_ids(torch.tensor([True, False]), "mask").tolist() == [1, 0]
    assert whole_number_ids(np.array([True, False]), "mask").tolist() == [1, 0]


def test_negative_ids_and_the_largest_ones_stay() -> None:
    ids = [-(2**63), -1, 2**63 - 1]
    assert whole_number_ids(torch.tensor(ids), "mask").tolist() == ids
    assert whole_number_ids(torch.tensor([-(2.0**63), -1.0]), "mask").tolist() == ids[:2]


def test_mask_within_a_graph() -> None:
    ids = whole_number_ids(torch.tensor([1.0, 2.0], requires_grad=True), "mask")
    assert not ids.requires_grad
    assert ids.tolist() == [1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_mask_on_another_device() -> None:
    ids = whole_number_ids(torch.tensor(IDS, device="cuda"), "mask")
    assert ids.device.type == "cpu"
    assert ids.tolist() == IDS


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([0.5, 1.0]),
        np.array([1.0, 1.25]),
        torch.tensor([0.0, float("nan")]),
        torch.tensor([0.0, float("inf")]),
        torch.tensor([0.0, float("-inf")], dtype=torch.float16),
        torch.tensor([1e30]),
        torch.tensor([2.0**63], dtype=torch.float64),
        torch.tensor([1 + 0j]),
        np.array([1 + 0j]),
        torch.from_numpy(np.array([2**63], dtype=np.uint64)),
        torch.zeros(0, dtype=torch.int64),
        np.zeros((3, 0)),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
    ],
    ids=str,
)
def test_other_numbers_are_refused(mask: Any) -> None:
    with pytest.raises(ValueError, match="segmentation_mask"):
        whole_number_ids(mask, "segmentation_mask")


@pytest.mark.parametrize("mask", [None, "1", 3, [1, 2], (1, 2), object(), np.array(["a"])])
def test_other_types_are_refused(mask: Any) -> None:
    with pytest.raises(TypeError):
        whole_number_ids(mask, "band_mask")


# ---------------------------------------------------------------- numbered from 0 on


def test_numbers_are_places_among_the_distinct_ids() -> None:
    numbered, found = number_ids(torch.tensor([[7, -1, 3], [7, 12, -5]]))
    assert numbered.tolist() == [[1, -1, 0], [1, 2, -1]]
    assert found.tolist() == [3, 7, 12]
    assert (numbered.dtype, found.dtype) == (np.int32, np.int64)


def test_all_negative() -> None:
    numbered, found = number_ids(torch.tensor([-1, -2]))
    assert numbered.tolist() == [-1, -1]
    assert found.tolist() == []


@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=0, max_dims=3, max_side=6),
        elements=st.one_of(st.integers(-3, 9), st.integers(-(2**63), 2**63 - 1), st.sampled_from([10**6, 10**12])),
    )
)
def test_numbers_lead_back_to_the_ids(ids: np.ndarray) -> None:
    numbered, found = number_ids(torch.from_numpy(ids))
    assert numbered.shape == ids.shape
    assert found.tolist() == sorted({i for i in ids.flatten().tolist() if i >= 0})
    assert np.array_equal(numbered >= 0, ids >= 0)
    assert np.array_equal(found[numbered[ids >= 0]], ids[ids >= 0])
    assert (numbered[ids < 0] == -1).all()


def test_expanded_mask_is_looked_at_once() -> None:
    ids = torch.tensor([4, 2, 4]).reshape(3, 1, 1).expand(3, 100_000, 1_000_000)
    numbered, found = number_ids(ids)
    assert numbered.shape == ids.shape
    assert numbered[:, 7, 9].tolist() == [1, 0, 1]
    assert found.tolist() == [2, 4]


def test_noncontiguous_ids() -> None:
    ids = torch.arange(12).reshape(3, 4).T[::2]
    numbered, found = number_ids(ids)
    assert found[numbered].tolist() == ids.tolist()
