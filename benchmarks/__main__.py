"""``python -m benchmarks``: measures every part, or those in ``--only``, and writes its section of RESULTS.md.

Parts: ``peer`` (every workload in both libraries), ``third`` (models that others wrote, small), ``windows`` (the same
at full size, small windows), ``bounds`` (what arithmetic and memory allow), ``scaling`` (time and memory as steps,
windows, sizes, bands and images grow), ``busy`` (beside a process that keeps a core busy), ``clip`` (a model of CLIP's
size), ``scenes`` (the parts of a scene, and what many scenes come to).
"""

from __future__ import annotations

import argparse
import pickle
from typing import Any

from . import bounds, busy, clip, large_windows, peer, scaling, scenes, third_party
from .process import ROOT
from .table import RESULTS, write_section

PARTS = {
    "peer": peer,
    "third": third_party,
    "windows": large_windows,
    "bounds": bounds,
    "scaling": scaling,
    "busy": busy,
    "clip": clip,
    "scenes": scenes,
}


# What tells the rows of a part apart.
KEYS = ("workload", "scene", "path", "model", "method", "name", "case", "value", "part")


def kept(part: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a part that were measured on this machine so far, with these in place of older ones."""
    file = ROOT / "build" / "benchmarks" / f"{part}.pickle"
    older = pickle.loads(file.read_bytes()) if file.exists() else []
    found = {tuple(row.get(key) for key in KEYS): row for row in [*older, *rows]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(list(found.values())))
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given several times")
    parser.add_argument("--filter", default="", help="rows whose name contains this; nothing is written")
    parser.add_argument("--keep", action="store_true", help="keep rows, in place of older ones, for --write")
    parser.add_argument("--write", action="store_true", help="measure no rows: write the sections of those kept")
    parser.add_argument("--rounds", type=int, default=3, help="calls that count, for each path (default 3)")
    parser.add_argument("--tiny", action="store_true", help="only see that they run, on little; nothing is written")
    options = parser.parse_args()

    for name, part in PARTS.items():
        if options.only and name not in options.only:
            continue
        print(f"{name} ...", flush=True)
        rounds = 1 if options.tiny else options.rounds
        rows = [] if options.write else part.measure(rounds, options.tiny, lambda row: options.filter in row)
        if options.keep or options.write:
            rows = kept(name, rows)
        if options.write and not rows:
            print("no rows are kept")
            continue
        if options.write or not (options.filter or options.tiny or options.keep):
            write_section(RESULTS, part.section(rows, rounds))
            print(f"wrote this section of {RESULTS}")


if __name__ == "__main__":
    main()
