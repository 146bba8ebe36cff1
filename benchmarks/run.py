"""Run dini beside its peers and refresh the committed tables in ``results``.

    python benchmarks/run.py [--families f1,f3] [--quick | --full] [--peers-folder ../shared/peers]

Each family runs in its own process, pinned to one core; times are medians of CPU time over interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from report import digits, table, write

HERE = pathlib.Path(__file__).resolve().parent
ADAPTER = HERE / "dini_adapter.py"
FAMILIES = {
    "f1": ("f1_hypergrad.py", "Hypergradients of ridge and logistic regression"),
    "f2": ("f2_lasso.py", "Lasso and elastic net: the path and gradients"),
    "f3": ("f3_svm.py", "Dual of the multiclass SVM, implicit and unrolled"),
    "f4": ("f4_qp.py", "Quadratic programs, forward and backward"),
    "f5": ("f5_lsq_root.py", "Nonlinear least squares and roots"),
    "f6": ("f6_minimise.py", "Unconstrained minimization"),
    "f7": ("f7_deq.py", "Fixed points and an equilibrium layer"),
    "f8": ("f8_projections.py", "Projections, forward and backward"),
    "f9": ("f9_overhead.py", "Compilation, dispatch, memory, import"),
}
JAX_PEERS = "dini,jax,optimistix,optax,qpax"
#: peers that are not in JAX, and are the measure of a family
COMPILED = {"f2": "celer,scikit"}


def run(family: str, folder: pathlib.Path, out: pathlib.Path, options: list[str], limit: float) -> None:
    """Run one family of the peers' harness; its JSON lines go to ``out``."""
    command = [sys.executable, str(folder / FAMILIES[family][0]), "--one-core", "--adapter", str(ADAPTER)]
    start = time.perf_counter()
    end = subprocess.run(
        [*command, "--out", str(out), *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        timeout=limit,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    print(f"{family}: exit {end.returncode}, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def load(path: pathlib.Path) -> dict[tuple[str, str], dict[str, dict[str, dict]]]:
    """Return the records as ``{(task, size): {peer: {metric: record}}}``."""
    tasks: dict[tuple[str, str], dict[str, dict[str, dict]]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        peers = tasks.setdefault((record["family"], record["size"]), {})
        peers.setdefault(record["peer"], {})[record["metric"]] = record
    return tasks


def on_jax(name: str) -> bool:
    """Return whether a peer is a solver in JAX other than dini."""
    return name.startswith(("jax", "optimistix", "optax"))


def met(records: dict[str, dict]) -> bool:
    """Return whether a timed peer met the task's target, where it has one."""
    return records["steady"]["quality"].get("ok", True)


def opponent(name: str, peers: dict[str, dict[str, dict]]) -> str | None:
    """Return the peer to compare with: the fastest in JAX at the target.

    Where a task fixes the method and so has no target, it is the peer that runs the same method.
    """
    timed = {n: r for n, r in peers.items() if "steady" in r and on_jax(n)}
    if "ok" not in peers[name]["steady"]["quality"]:
        method = name.removeprefix("dini ")
        timed = {n: r for n, r in timed.items() if n.endswith(f" {method}")} or timed
    good = {n: r["steady"]["cpu"] for n, r in timed.items() if met(r)}
    return min(good, key=good.__getitem__) if good else None


def quality(records: dict[str, dict]) -> str:
    """Return the quality figures of a timed peer."""
    figures = records["steady"]["quality"]
    text = ", ".join(f"{k} {v:.1e}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items() if k != "ok")
    return text if figures.get("ok", True) else f"**misses**: {text}"


def steady(tasks: dict) -> list[list[str]]:
    """Return one row for each timed dini peer."""
    rows = []
    for (task, size), peers in tasks.items():
        for name, records in peers.items():
            if not name.startswith("dini"):
                continue
            if "error" in records:
                rows.append([task, size, name, "fails", *[""] * 6])
            if "steady" not in records:
                continue
            row = [task, size, name, digits(records["steady"]["cpu"], 1e3)]
            first = digits(records["first"]["cpu"])
            other = opponent(name, peers)
            if other is None:
                rows.append([*row, "none at the target", "", "", quality(records), "", first])
                continue
            theirs = peers[other]
            ratio = records["steady"]["cpu"] / theirs["steady"]["cpu"]
            times = [other, digits(theirs["steady"]["cpu"], 1e3), f"{ratio:.2f}"]
            firsts = f"{first} / {digits(theirs['first']['cpu'])}"
            rows.append([*row, *times, quality(records), quality(theirs), firsts])
    return rows


def floors(tasks: dict) -> list[list[str]]:
    """Return the rows of what the hardware or a hand-written program needs."""
    return [
        [
            task,
            size,
            name.removeprefix("floor: "),
            digits(records["steady"]["cpu"], 1e3),
            digits(records["first"]["cpu"]) if "first" in records else "",
        ]
        for (task, size), peers in tasks.items()
        for name, records in peers.items()
        if name.startswith("floor") and "steady" in records
    ]


def beside_compiled(tasks: dict) -> list[list[str]]:
    """Return the rows of dini's peers beside the fastest one at the target that is not in JAX."""
    rows = []
    for (task, size), peers in tasks.items():
        others = {
            name: records["steady"]["cpu"]
            for name, records in peers.items()
            if "steady" in records and not name.startswith(("dini", "floor")) and not on_jax(name) and met(records)
        }
        for name, records in peers.items() if others else ():
            if name.startswith("dini") and "steady" in records:
                best = min(others, key=others.__getitem__)
                times = [digits(seconds, 1e3) for seconds in (records["steady"]["cpu"], others[best])]
                ratio = records["steady"]["cpu"] / others[best]
                rows.append([task, size, name, times[0], best, times[1], f"{ratio:.2f}"])
    return rows


def precise(tasks: dict, target: float = 1e-6) -> list[list[str]]:
    """Return the rows of hypergradients to ``target``: dini's peers that reach it beside the fastest library that does.

    A program that is written by hand for one problem is no library: it stands in the first table.
    """
    rows = []
    for (task, size), peers in tasks.items():
        times = {
            name: records["steady"]["cpu"]
            for name, records in peers.items()
            if "steady" in records and records["steady"]["quality"].get("grad_rel_err", 1.0) <= target
        }
        libraries = {name: t for name, t in times.items() if on_jax(name) and "hand-written" not in name}
        best = min(libraries, key=libraries.__getitem__, default=None)
        for name in (name for name in times if name.startswith("dini")):
            row = [task, size, name, digits(times[name], 1e3)]
            if best is None:
                rows.append([*row, "none at the target", "", ""])
            else:
                rows.append([*row, best, digits(times[best], 1e3), f"{times[name] / times[best]:.2f}"])
    return rows


def summary(tasks: dict) -> list[list[str]]:
    """Return what dini takes over the best of its peers, on each task with a target for the quality.

    The verb alone, without a choice of the user's, stands first, and then the best of dini's solvers: both beside
    libraries, without programs that are written by hand for one problem; the best beside all peers in JAX as well.
    """
    rows = []
    library = lambda name: on_jax(name) and "hand-written" not in name and not name.startswith("jax.lax")
    for kind, mine, counts in (
        ("the verb alone, beside libraries", lambda name: "(default)" in name, library),
        ("the best of dini, beside libraries", lambda name: True, library),
        ("the best of dini, beside all peers in JAX", lambda name: True, on_jax),
    ):
        ratios = {}
        for (task, size), peers in tasks.items():
            judged = {n: r for n, r in peers.items() if "steady" in r and "ok" in r["steady"]["quality"] and met(r)}
            ours = [r["steady"]["cpu"] for n, r in judged.items() if n.startswith("dini") and mine(n)]
            theirs = [r["steady"]["cpu"] for n, r in judged.items() if counts(n)]
            if ours and theirs:
                ratios[f"{task} {size}"] = min(ours) / min(theirs)
        if ratios:
            above = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if ratio > 1]
            mean = statistics.geometric_mean(ratios.values())
            rows.append([kind, str(len(ratios)), f"{mean:.2f}", ", ".join(above) or "none"])
    return rows


def figures(tasks: dict) -> list[list[str]]:
    """Return the rows of what is measured but not timed in rounds (memory, import)."""
    return [
        [task, size, name, metric, f"{digits(record['value'])} {record['unit']}", digits(record.get("compile_s", 0.0))]
        for (task, size), peers in tasks.items()
        for name, records in peers.items()
        for metric, record in records.items()
        if metric not in ("first", "steady", "error")
    ]


def body(tasks: dict) -> str:
    """Return the tables of one family."""
    header = ["task", "size", "dini", "CPU ms", "best JAX peer", "CPU ms", "ratio", "dini's quality"]
    parts = [table([*header, "its quality", "first call, s (dini / peer)"], steady(tasks))]
    if rows := summary(tasks):
        parts.insert(0, table(["what", "tasks", "geometric mean of the ratios", "tasks above 1"], rows))
    if any(task.startswith("f1.") for task, _ in tasks):
        header = ["task", "size", "dini", "CPU ms", "best library in JAX", "CPU ms", "ratio"]
        title = "Errors of the hypergradient of at most 1e-6, beside libraries:"
        parts.append(f"{title}\n\n{table(header, precise(tasks))}")
    if rows := beside_compiled(tasks):
        header = ["task", "size", "dini", "CPU ms", "best of these", "CPU ms", "ratio"]
        parts.append("Beside the other peers (compiled ones, and qpax):\n\n" + table(header, rows))
    if rows := figures(tasks):
        parts.append(table(["task", "size", "peer", "figure", "value", "compile s"], rows))
    if rows := floors(tasks):
        parts.append("Floors:\n\n" + table(["task", "size", "floor", "CPU ms", "first call, s"], rows))
    return "\n\n".join(parts)


def main() -> None:
    """Run the families that are asked for and write their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--peers-folder", type=pathlib.Path, default=HERE.parent.parent / "shared" / "peers")
    parser.add_argument("--peers", default=JAX_PEERS, help="peers to run, floors always run (default: those in JAX)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes only")
    parser.add_argument("--full", action="store_true", help="the largest sizes as well")
    parser.add_argument("--limit", type=float, default=1500, help="seconds for one family")
    parser.add_argument("--raw", type=pathlib.Path, help="folder that keeps the JSON lines")
    args = parser.parse_args()
    if not (args.peers_folder / "common.py").is_file():
        parser.error(f"no harness in {args.peers_folder}: give --peers-folder")
    flags = [flag for flag in ("--quick", "--full") if getattr(args, flag[2:])]
    raw = args.raw or pathlib.Path(tempfile.mkdtemp())
    raw.mkdir(parents=True, exist_ok=True)
    for family in args.families.split(","):
        out = raw.resolve() / f"{family}.jsonl"
        out.unlink(missing_ok=True)
        peers = ",".join(filter(None, [args.peers, COMPILED.get(family) if args.peers else None]))
        run(family, args.peers_folder.resolve(), out, ["--peers", peers, *flags], args.limit)
        command = " ".join(["python benchmarks/run.py --families", family, *flags])
        write(family, FAMILIES[family][1], command, body(load(out)))


if __name__ == "__main__":
    main()
