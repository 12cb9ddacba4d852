"""Write the embedded demo field, meteors_c/datasets/demo_field.npz.

Run from anywhere: ``python tools/make_field.py``. The field comes out the same, bit for bit; ``--check`` compares with
the file instead of writing it and exits 1 on a difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meteors_c.datasets._simulate import demo_field

FILE = Path(__file__).parents[1] / "meteors_c" / "datasets" / "demo_field.npz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    check = parser.parse_args().check
    arrays = demo_field()
    if check:
        with np.load(FILE) as stored:
            different = [name for name in arrays | dict(stored) if not _equal(name, arrays, stored)]
        print(f"{FILE.name}: " + (f"different in {', '.join(different)}" if different else "the same, bit for bit"))
        return 1 if different else 0
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1e6:.2f} MB")
    return 0


def _equal(name: str, left: Mapping[str, NDArray[Any]], right: Mapping[str, NDArray]) -> bool:
    if name not in left or name not in right:
        return False
    return left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name])


if __name__ == "__main__":
    raise SystemExit(main())
