from __future__ import annotations

import copy
import pickle

import pytest

from meteors_c import exceptions

ALL = [getattr(exceptions, name) for name in exceptions.__all__]


@pytest.mark.parametrize("error", ALL)
def test_every_error_keeps_its_one_message(error):
    raised = error("what came and what is wanted")
    assert raised.message == str(raised) == "what came and what is wanted"
    with pytest.raises(TypeError):
        error("one", "too many")


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_every_error_survives_copying_and_pickling(error, duplicate):
    twin = duplicate(error("text"))
    assert type(twin) is error
    assert twin.message == str(twin) == "text"


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (exceptions.ValidationError, {ValueError}),
        (exceptions.ShapeMismatchError, {exceptions.ValidationError, ValueError}),
        (exceptions.BroadcastError, {exceptions.ShapeMismatchError, RuntimeError}),
        (exceptions.OrientationError, {exceptions.ValidationError, ValueError, RuntimeError}),
        (exceptions.DeviceError, {exceptions.ValidationError, ValueError, RuntimeError}),
    ],
)
def test_specific_errors_are_caught_as_general_ones(error, parents):
    for parent in parents:
        assert issubclass(error, parent)


@pytest.mark.parametrize("name", ["MaskCreationError", "BandSelectionError", "HSIAttributesError"])
def test_the_other_errors_are_no_value_errors(name):
    assert not issubclass(getattr(exceptions, name), (ValueError, RuntimeError))
