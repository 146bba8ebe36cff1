"""What the experiment prints.

The references were measured for the specification with other code, on one seed. No figure of the paper is among them:
its results on these tasks are figures only.
"""

from __future__ import annotations

from collections.abc import Iterator

from dini_zoo.kit.tables import Check, Table, at_least, at_most, size

from .study import CGS, GNN1, GNN3, SHORT, Found, Result, Settings

#: What a prototype measured for the specification on one seed: test, and transfer.
_PROTOTYPE = {CGS: ("0.059", "0.023"), SHORT: ("0.118", ""), GNN1: ("0.255", ""), GNN3: ("0.103", "0.041")}


def tables(result: Result) -> list[Table]:
    """The models on the path, decision processes, and one model's fixed points by each solver."""
    learned = [] if result.decisions is None else [decision_table(result, result.decisions)]
    return [path_table(result), *learned, solver_table(result)]


def path_table(result: Result) -> Table:
    """The models on the path; the prototype's figures where its task is ours."""
    task, seeds, rows = result.settings.path, result.settings.seeds, []
    theirs = task == Settings().path
    for name, found in result.path.items():
        cells = [
            f"{median:.3f} ({min(own):.3f}–{max(own):.3f})"
            for median, own in zip(found.medians, (found.test, found.transfer), strict=True)
        ]
        took = 1e3 * min(course.seconds for course in found.courses) / task.steps
        spec = _PROTOTYPE.get(name, ("", "")) if theirs else ("", "")
        rows.append([name, cells[0], spec[0], cells[1], spec[1], f"{took:.1f}"])
    solved = "γ = 0.95 is solved for by LU, γ = 0.5 by Picard's iteration through dini."
    return Table(
        f"A. Rewards on a path: {task.steps} steps of {task.batch} graphs",
        ("model", "RMSE", "spec", "longer paths", "spec", "ms a step"),
        rows,
        f"RMSE over all nodes: the median of {len(seeds)} seeds, and the range. Paths of {task.sizes[0]} to "
        f"{task.sizes[1]} nodes (root mean square of the values {result.spread[0]:.2f}), longer ones of "
        f"{task.larger[0]} to {task.larger[1]} ({result.spread[1]:.2f}). Spec: one seed of a prototype. {solved}",
    )


def decision_table(result: Result, found: Found) -> Table:
    """Decision processes in and out of the sizes of training; the prototype's figures where its task is ours."""
    settings, task = result.settings, result.settings.decisions
    usual = Settings()
    theirs = (task, settings.actions, settings.more_actions) == (usual.decisions, usual.actions, usual.more_actions)
    given = (
        ("as in training", task.sizes, settings.actions, found.test[0], "3.9 %"),
        ("others", task.larger, settings.more_actions, found.transfer[0], "3.8 %"),
    )
    rows = []
    for (name, states, actions, error, spec), naive, policy in zip(given, result.naive, result.policy, strict=True):
        ranges = (f"{low}–{high}" for low, high in (states, actions))
        shares = (f"{100 * naive:.1f} %", f"{100 * policy:.1f} %")
        rows.append([name, *ranges, f"{100 * error:.1f} %", spec if theirs else "", *shares])
    return Table(
        f"B. Values of decision processes: {task.steps} steps of {task.batch} graphs",
        ("processes", "states", "actions", "relative error", "spec", "naive", "policy"),
        rows,
        "Relative error: mean of |predicted − true| / |true| over all states. Naive: that of the mean value of "
        "training. Policy: how often the action that is best by the predicted values is a best one. "
        f"{1e3 * found.courses[0].seconds / task.steps:.0f} ms a step. The model departs from the paper's in its "
        "activation (SiLU in place of a leaky rectifier), its first weights (greater by √2) and the decoder's last "
        "bias, which begins at the mean value of training.",
    )


def solver_table(result: Result) -> Table:
    """The trained model's fixed points by each solver."""
    most, growth = result.settings.most, [one.more / one.memory for one in result.agreement]
    rows = [
        [
            one.name,
            f"{one.gamma:g}",
            str(one.steps) if one.steps else "",
            f"{one.solution:.1e}",
            f"{one.gradient:.1e}",
            size(one.memory),
        ]
        for one in result.agreement
    ]
    return Table(
        "C. One trained model's fixed points by each solver, in double precision",
        ("solver", "γ", "iterations", "solution", "gradient", "memory"),
        rows,
        "Solution, gradient: largest distance from dense algebra in NumPy, on one path. Memory: of the gradient; where "
        f"{most} iterations are allowed it is {min(growth):.3f} to {max(growth):.3f} times as much.",
    )


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification."""
    ours, ours_far = result.path[CGS].medians

    def over(name: str, place: int) -> float | None:
        found = result.path.get(name)
        return None if found is None else (ours, ours_far)[place] / found.medians[place]

    yield Check("paths: RMSE", ours, at_most(0.075), 0.059, form=".3f")
    yield Check("paths: RMSE / GNN, 1 layer", over(GNN1, 0), at_most(0.35), 0.23, form=".2f")
    yield Check("paths: RMSE / GNN, 3 layers", over(GNN3, 0), at_most(0.75), 0.57, form=".2f")
    yield Check("longer paths: RMSE / GNN, 3 layers", over(GNN3, 1), at_most(0.75), 0.56, form=".2f")
    inside, outside = (None, None) if result.decisions is None else result.decisions.medians
    yield Check("decisions: relative error", inside, at_most(0.055), 0.039, form=".3f")
    yield Check("larger decisions: relative error", outside, at_most(0.06), 0.038, form=".3f")
    for where, naive, error in zip(("decisions", "larger decisions"), result.naive, (inside, outside), strict=True):
        yield Check(f"{where}: naive / ours", None if error is None else naive / error, at_least(2), form=".1f")
    solution = max(one.solution for one in result.agreement)
    gradient = max(one.gradient for one in result.agreement)
    growth = max(one.more / one.memory for one in result.agreement)
    yield Check("fixed points to dense algebra", solution, at_most(1e-6), form=".1e")
    yield Check("gradients to dense algebra", gradient, at_most(1e-6), form=".1e")
    yield Check("gradients' memory, more iterations allowed", growth, at_most(1.01), form=".3f")


def headline(result: Result) -> str:
    """The one figure that matters."""
    names = list(result.path)
    errors = "; ".join(
        f"{found.medians[0]:.3f} ({min(found.test):.3f} to {max(found.test):.3f}) {name}"
        for name, found in result.path.items()
        if name in (names[0], names[-1])  # the deepest of each kind
    )
    return f"RMSE of rewards along a path, median and range of {len(result.settings.seeds)} seeds: {errors}"
