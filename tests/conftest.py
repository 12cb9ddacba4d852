"""What every test starts from: no display, the same random numbers, no figure left open."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")
# A shell that starts the tests in the background makes them deaf to Ctrl-C, and some are about just that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Images are too small here to be shared among threads: waiting for each other would take most of the time.
torch.set_num_threads(1)
# The same examples every time; `--hypothesis-profile explore` looks for faults in new ones.
settings.register_profile("repeat", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("explore", deadline=None, derandomize=False, max_examples=300, print_blob=True)
settings.load_profile("repeat")


@pytest.fixture(autouse=True)
def _fresh_start() -> Iterator[None]:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - for code under test that draws from the global generator
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
