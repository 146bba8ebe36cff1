"""What imports cost, in seconds of CPU of a process of its own: dini beside JAX, dini-learn beside scikit-learn.

    python benchmarks/imports.py [--rounds 7]

Rows take turns, after a round that compiles Python's files and is not counted. ``more`` is the least of a row less that
of the row that it stands beside.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys

from report import one_core, table, write

one_core()

#: what is run, and beside what
ROWS = {
    "import jax": "",
    "import dini": "import jax",
    "import dini; dini.sets.Simplex": "import jax",
    "import dini; dini.LBFGS": "import jax",
    "import dini; dini.minimize": "import jax",
    "from dini import *": "import jax",
    "import sklearn.linear_model": "",
    "import dini_learn": "import sklearn.linear_model",
    "dini --help": "",
    "dini list": "",
}
COUNT = "; import sys; print(sum(name.split('.')[0] in ('dini', 'dini_learn') for name in sys.modules))"


def _run(row):
    """Return the seconds of a process, and how many modules of dini it has imported."""
    command = [sys.executable, "-c", row + COUNT]
    if row.startswith("dini "):
        command = [sys.executable, "-m", "dini_zoo", *row.split()[1:]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, "" if row.startswith("dini ") else done.stdout.split()[-1]


def main():
    """Measure all rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    times, modules = {row: [] for row in ROWS}, {}
    for turn in range(rounds + 1):
        for row in ROWS:
            seconds, modules[row] = _run(row)
            if turn:
                times[row].append(seconds)
    rows = []
    for row, beside in ROWS.items():
        least, middle = min(times[row]), statistics.median(times[row])
        more = f"{least - min(times[beside]):.2f}" if beside else ""
        rows.append((f"`{row}`", f"{least:.2f}", f"{middle:.2f}", more, beside and f"`{beside}`", modules[row]))
    head = ("what", "least", "median", "more", "than", "modules of dini")
    write("imports", "Imports, in seconds of CPU", f"python benchmarks/imports.py --rounds {rounds}", table(head, rows))


if __name__ == "__main__":
    main()
