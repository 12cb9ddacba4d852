"""benchmarks/RESULTS.md from what was measured."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .driver import PEER_PYTHON
from .workloads import WORKLOADS, Goal

INTRODUCTION = """\
# Measured against the peer

Made by `make bench`. Each library runs in a process of its own; the calls take turns, and the figures are medians of
{rounds} calls, or more where they are short, after one that does not count. The ratio is the peer's time over ours, the
median of the turns, and the least and the largest of them: on a virtual machine, memory that a process gave back may
have to be fetched anew from the host, and calls that take gigabytes vary up to threefold. The peak is what was
resident in the whole process: torch, model and image included. A difference is the largest one over all values,
relative to the largest value: between ours and the peer's, then of each from the same formula in float64 by plain
torch. Where an input lies on the kink of a ReLU or on a tie of a pooling window, float32 and float64 take different
sides, and single values differ by more than rounding. Exact float32, all cores. Of a method that the peer does not
have, the peer's columns hold plain forwards of the model by torch, without gradients and in the fastest of small
batches, as many as the method evaluates.

{machine}; peer: {peer}.
"""

RESULTS = Path(__file__).with_name("RESULTS.md")
ERRORS = ("difference", "ours_error", "peer_error")


def machine(*packages: str) -> str:
    """The machine in words: what the figures depend on, nothing that names it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ours = versions(sys.executable, ("meteors_c", "torch", "numpy", *packages))
    return (
        f"{datetime.date.today().isoformat()}; {os.cpu_count()} cores ({processor()}, {platform.machine()}), "
        f"{memory:.0f} GiB; {platform.system()}, Python {platform.python_version()}; {ours}"
    )


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "processor unknown"


def versions(python: str, packages: Iterable[str]) -> str:
    code = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{p} {v(p)}' for p in sys.argv[1:]))"
    )
    done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True)
    return done.stdout.strip()


MISSED = "**missed**"


def judged(text: str, reached: bool) -> str:
    """Return a text, and whether what it says misses what is wanted."""
    return text if reached else f"{MISSED}: {text}"


def within(value: float, most: float) -> str:
    """Return a figure that is to be at most `most`, and whether it misses that."""
    return judged(f"{value:.2f}", value <= most)


def reaching(value: float, least: float) -> str:
    """Return a figure that is to be at least `least`, and whether it misses that."""
    return judged(f"{value:.2f}", value >= least)


def grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose first column is text and whose others are figures."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def path_taken(row: dict[str, Any]) -> str:
    """The path that was asked for; a shortcut that was not taken says why."""
    declined = row["path"] == "shortcut" and not row["shortcut"]
    return f"shortcut declined: {row['declined']}" if declined else row["path"]


def verdict(row: dict[str, Any], goal: Goal | None) -> str:
    if goal is None:
        return ""
    wanted = f">= {goal.ratio:g} x" + (f", < {goal.peak / 1e9:.1f} GB" if goal.peak else "")
    reached = row["ratio"] >= goal.ratio and (goal.peak is None or row["ours_peak"] < goal.peak)
    return judged(wanted, reached)


def error(row: dict[str, Any], key: str) -> str:
    if key in row:
        return f"{row[key]:.1e}"
    return "random" if WORKLOADS[row["workload"]].random else ""


def named_section(title: str, caption: str, *tables: str, packages: tuple[str, ...] = ()) -> str:
    """A section of the page: what was measured, where, and the tables."""
    return "\n".join([f"# {title}\n", caption, f"{machine(*packages)}.\n", *tables])


def write_section(path: Path, section: str) -> None:
    """Put a section into the page, in place of the one that has its heading, else at the end."""
    page = path.read_text() if path.exists() else ""
    sections = [text.strip() + "\n" for text in re.split(r"^(?=# )", page, flags=re.MULTILINE) if text.strip()]
    heading = section.split("\n", 1)[0]
    places = [place for place, text in enumerate(sections) if text.split("\n", 1)[0] == heading]
    if places:
        sections[places[0]] = section.strip() + "\n"
    else:
        sections.append(section.strip() + "\n")
    path.write_text("\n".join(sections))


def against_peer(rows: list[dict[str, Any]], checks: list[tuple[str, str, str, bool]], rounds: int) -> str:
    """The section of the workloads; `checks` are (what, measured, wanted, reached)."""
    theirs = versions(PEER_PYTHON, ("meteors", "captum", "torch"))
    parts = [INTRODUCTION.format(rounds=rounds, machine=machine(), peer=theirs)]
    head = [
        "",
        "path",
        "ours s",
        "peer s",
        "ratio",
        "goal",
        "ours GB",
        "peer GB",
        "ours - peer",
        "ours - exact",
        "peer - exact",
    ]
    measured = {row["workload"] for row in rows}
    for workload in filter(measured.__contains__, WORKLOADS):
        parts.append(f"## {workload}\n")
        parts.append(
            grid(
                head,
                [
                    [
                        row["scene"],
                        path_taken(row),
                        f"{row['ours']:.3f}",
                        f"{row['peer']:.3f}",
                        f"{row['ratio']:.2f} ({row['least_ratio']:.1f} to {row['largest_ratio']:.1f})",
                        verdict(row, WORKLOADS[workload].goals.get((row["path"], row["scene"]))),
                        f"{row['ours_peak'] / 1e9:.2f}",
                        f"{row['peer_peak'] / 1e9:.2f}",
                        *(error(row, key) for key in ERRORS),
                    ]
                    for row in rows
                    if row["workload"] == workload
                ],
            )
        )
    if checks:
        parts.append("## Beside the times\n")
        parts.append(
            grid(
                ["", "measured", "wanted"],
                [[what, got, judged(wanted, reached)] for what, got, wanted, reached in checks],
            )
        )
    return "\n".join(parts)
