"""What the scripts of this folder share: pinning, timing, tables, the header of a committed result."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
PACKAGES = ("dini", "jax", "jaxlib", "lineax", "jaxopt", "optimistix", "optax", "sif2jax", "numpy", "scipy")


def one_core() -> None:
    """Pin the process to one core and JAX to the CPU; call before JAX is imported."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def versions() -> str:
    """Return the versions of Python and of the packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(name: str, title: str, command: str, body: str, dtype: str = "float64") -> None:
    """Write ``results/name.md`` and print it."""
    text = f"# {title}\n\nMade by `{command}`.\n{versions()}; {dtype} on one core of a CPU.\n\n{body}\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def interleaved(calls: dict[str, Callable[[], object]], *, repeat: int, rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of a call of each function, over rounds that visit all of them in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    order = list(calls)
    for i in range(rounds):
        shift = i % len(order)
        for name in order[shift:] + order[:shift]:
            call = calls[name]
            start = time.process_time()
            for _ in range(repeat):
                call()
            times[name].append((time.process_time() - start) / repeat)
    return {name: statistics.median(values) for name, values in times.items()}


def digits(value: float, unit: float = 1.0) -> str:
    """Return a number with three digits, in multiples of ``1 / unit``."""
    return f"{value * unit:.3g}"
