"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.tables import Bar, Check, Table, at_least, at_most

from .fence import Fence
from .gradients import Mode
from .network_runs import Trained
from .study import PESSIMISTIC, Result
from .tabular_runs import LAM, RESCALED, Lane

NAMES = {"orthogonal": "orthogonal", "semi": "semi-gradient", "sum": "plain sum", "true": "true gradient"}

METHODS: tuple[tuple[Mode, float], ...] = (
    ("orthogonal", LAM),
    ("semi", LAM),
    ("sum", LAM),
    ("true", LAM),
    ("true", RESCALED),
)
#: Of the specification at scales 1 and 3: success, mud, the values' error.
REFERENCES = {
    ("orthogonal", LAM): ((0.9998, 0.0, 1.75), (1.0, 0.0, 3.1)),
    ("semi", LAM): ((0.0, 1.0, 4.0), (0.0, 1.0, 9.6)),
    ("sum", LAM): ((0.93, 0.07, 73.0), (0.93, 0.07, 76.0)),
    ("true", LAM): ((0.999, 0.0, 127.0), (1.0, 0.0, 129.0)),
    ("true", RESCALED): ((0.913, 0.0, 4.4), (1.0, 0.0, 3.5)),
}
#: Success with the code's weights.
CODE = {
    ("orthogonal", LAM): (0.925, 1.0),
    ("semi", LAM): (0.0, 0.0),
    ("sum", LAM): (0.999, 1.0),
    ("true", LAM): (1.0, 1.0),
    ("true", RESCALED): (0.434, 0.446),
}
BARS: dict[tuple[str, float], dict[str, Bar]] = {
    ("orthogonal", LAM): {
        "success": at_least(0.99),
        "mud": at_most(1e-3),
        "RMSE": at_most(5),
        "code": at_least(0.9),
    },
    ("semi", LAM): {"success": at_most(0.01)},
    ("sum", LAM): {"RMSE": at_least(50)},
    ("true", LAM): {"RMSE": at_least(50)},
}


def name_of(mode: str, lam: float = LAM) -> str:
    """A method in words."""
    return "true, rescaled λ" if lam == RESCALED else NAMES[mode]


def lane_of(
    result: Result,
    mode: Mode,
    scale: float | None = None,
    *,
    fence: Fence = "cut",
    start: float = 0.0,
    lam: float = LAM,
) -> Lane | None:
    """One descent, at the first scale if none is given; nothing where it was not run."""
    scale = result.settings.scales[0] if scale is None else scale
    wanted = (mode, scale, start, fence, lam)
    for lane in result.lanes:
        setup = lane.setup
        if wanted == (setup.mode, setup.scale, setup.start, setup.fence, setup.lam):
            return lane
    return None


def tables(result: Result) -> list[Table]:
    """The fence, its limits, duals, networks, batches."""
    found = [fence_table(result), limit_table(result)]
    if result.duals is not None and result.imitation is not None:
        found.append(dual_table(result))
    if result.networks:
        found.append(trained_table("Value networks, policies in closed form", result.networks, result))
    if result.batches:
        found.append(trained_table("Batches, with a policy network", result.batches, result))
    return found


def _row(words: list[str], lane: Lane) -> list[str]:
    paper, code = lane.paper, lane.code
    figures = [f"{paper.success:.4f}", f"{paper.mud:.4f}", f"{paper.steps:.1f}", f"{code.success:.3f}"]
    dangling = "" if lane.dangling is None else f"{lane.dangling:.1f}"
    return [*words, *figures, f"{lane.error:.2f}", dangling]


COLUMNS = ("success", "mud", "steps", "code's", "RMSE", "dangling")


def fence_table(result: Result) -> Table:
    """Each method at each scale."""
    rows: list[list[str] | None] = []
    for scale in result.settings.scales:
        lanes = [lane for lane in result.lanes if lane.setup.fence == "cut" and lane.setup.start == 0]
        rows += [
            _row([name_of(lane.setup.mode, lane.setup.lam), f"{scale:g}"], lane)
            for lane in lanes
            if lane.setup.scale == scale
        ]
        rows.append(None)
    caption = (
        f"Tables, {result.settings.steps} full steps, nothing random. Scale: what a step costs. Success, caught in the "
        "mud, steps: with the paper's weights of actions; code's: success with the published code's. RMSE of the "
        "values to the shortest way's; dangling: mean value of the cells that are never left in the data."
    )
    return Table("The fenced grid", ("method", "scale", *COLUMNS), rows[:-1], caption)


def limit_table(result: Result) -> Table:
    """A pessimistic start; no fence; cut records dropped."""
    rows = []
    for lane in result.lanes:
        setup = lane.setup
        words = {"cut": f"start at {setup.start:g}", "none": "no fence", "dropped": "cuts dropped"}[setup.fence]
        if setup.fence != "cut" or setup.start != 0:
            rows.append(_row([words, name_of(lane.setup.mode, lane.setup.lam)], lane))
    caption = (
        f"As above, scale {result.settings.scales[0]:g}. Cuts dropped: moves through the fence are left out of the "
        "records."
    )
    return Table("Limits", ("", "method", *COLUMNS), rows, caption, left=2)


def dual_table(result: Result) -> Table:
    """The solver's solutions beside the descents', and imitation."""
    assert result.duals is not None
    assert result.imitation is not None
    rows = [[f"values, {NAMES[mode]}: descent − solver", f"{off:.1e}"] for mode, off in result.duals.distance.items()]
    rows.append(["return's implicit derivative: relative error", f"{result.duals.error:.1e}"])
    for mode, (off, success) in result.imitation.cloned.items():
        rows.append([f"imitation, {NAMES[mode]}: policy − behavior cloning", f"{off:.3f}"])
        rows.append([f"imitation, {NAMES[mode]}: success", f"{success:.3f}"])
    rows.append(["behavior cloning: success", f"{result.imitation.behavior:.3f}"])
    caption = "Without a fence; largest differences. The derivative is beside central differences."
    return Table("Solved to the end by dini", ("", "ours"), rows, caption)


def trained_table(title: str, several: list[Trained], result: Result) -> Table:
    """Success of every run."""
    rows = []
    for one in several:
        success = [outcome.success for outcome in one.outcomes]
        weights = {"conjugate": "paper's", "relu": "code's", "uniform": "one"}[one.weight]
        name = "behavior cloning" if one.weight == "uniform" else NAMES[one.mode]
        spread = f"{min(one.dangling):.1f} to {max(one.dangling):.1f}" if one.weight != "uniform" else ""
        error = f"{np.mean(one.error):.2f}" if one.weight != "uniform" else ""
        ends = [f"{end(success):.3f}" for end in (min, max)]
        rows.append([name, weights, f"{one.scale:g}", *ends, f"{_good(success)}", error, spread])
    settings = result.settings
    caption = f"Success of {settings.keys} keys, {settings.network_steps} full steps."
    if several is result.batches:
        caption = (
            f"Success of {settings.batch_keys} keys; {settings.records} records, {settings.batch_steps} steps "
            f"of {settings.batch} records."
        )
    columns = ("method", "weights", "scale", "worst", "best", "≥ .9", "RMSE", "dangling")
    return Table(title, columns, rows, caption, left=2)


def _good(success: list[float]) -> int:
    """How many keys arrive nearly always."""
    return sum(value >= 0.9 for value in success)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, and what it reports without one."""
    for scale in (1.0, 3.0):
        yield from _fence_checks(result, scale)
    yield from _limit_checks(result)
    yield from _network_checks(result)
    found = result.duals
    worst = None if found is None else max(found.distance.values())
    yield Check("duals: descent − solver, at most", worst, at_most(1e-3), form=".1e")
    error = None if found is None else found.error
    yield Check("the return's derivative: error", error, at_most(1e-5), form=".1e")
    cloned = result.imitation
    off = None if cloned is None else cloned.cloned["semi"][0]
    yield Check("imitation, semi-gradient: off cloning", off, at_most(1e-6), 0.0, form=".1e")


def _fence_checks(result: Result, scale: float) -> Iterator[Check]:
    column = (1.0, 3.0).index(scale)
    for mode, lam in METHODS:
        lane = lane_of(result, mode, scale, lam=lam)
        name = f"scale {scale:g}, {name_of(mode, lam)}"
        bars = BARS.get((mode, lam), {})
        success, mud, error = REFERENCES[mode, lam][column]
        yield Check(f"{name}: success", lane and lane.paper.success, bars.get("success"), success, form=".4f")
        yield Check(f"{name}: RMSE", lane and lane.error, bars.get("RMSE"), error, form=".3g")
        code = lane and lane.code.success
        yield Check(f"{name}: code's", code, bars.get("code"), CODE[mode, lam][column], form=".3f")
        if mode == "orthogonal":
            yield Check(f"{name}: mud", lane and lane.paper.mud, bars["mud"], mud, form=".4f")
            entering, reference = lane and lane.entering, (-2.007, -2.015)[column]
            yield Check(
                f"scale {scale:g}, largest residual into dangling", entering, at_most(-2), reference, form=".3f"
            )
        if mode == "semi":
            touched = lane and float(not lane.untouched)
            yield Check(f"scale {scale:g}, semi: dangling touched", touched, at_most(0), 0.0, form=".0f")
    settled = [lane_of(result, mode, scale, lam=lam) for mode, lam in METHODS if mode != "sum"]
    largest = max((lane.gradient for lane in settled if lane is not None), default=None)
    yield Check(f"scale {scale:g}, all but the sum: gradient", largest, at_most(1e-6), form=".0e")


def _limit_checks(result: Result) -> Iterator[Check]:
    lane = lane_of(result, "semi", start=PESSIMISTIC)
    name = f"semi-gradient from {PESSIMISTIC:g}"
    yield Check(f"{name}: success", lane and lane.paper.success, None, 0.9998, form=".4f")
    yield Check(f"{name}: code's", lane and lane.code.success, None, 0.952, form=".3f")
    for mode, success, error in (("orthogonal", 0.854, 2.7), ("semi", 0.854, 2.8), ("sum", "", 50.0)):
        lane = lane_of(result, mode, fence="none")
        name = f"no fence, {NAMES[mode]}"
        yield Check(f"{name}: code's", lane and lane.code.success, None, success, form=".3f")
        yield Check(f"{name}: RMSE", lane and lane.error, None, error, form=".3g")


def _network_checks(result: Result) -> Iterator[Check]:
    found = {one.mode: [outcome.success for outcome in one.outcomes] for one in result.networks if one.scale == 1}
    ours, theirs = found.get("orthogonal"), found.get("semi")
    yield Check("networks, orthogonal: worst key", ours and min(ours), at_least(0.9), 0.925, form=".3f")
    yield Check("networks, semi-gradient: worst key", theirs and min(theirs), None, 0.0, form=".3f")
    counts = [None if one is None else _good(one) for one in (ours, theirs)]
    yield Check("networks, semi-gradient: keys ≥ .9", counts[1], None, 6, form=".0f")
    bar = None if counts[1] is None else at_least(counts[1])
    yield Check("networks, orthogonal: keys ≥ .9", counts[0], bar, 8, form=".0f")


def headline(result: Result) -> str:
    """The one figure that matters, with what it is compared with."""
    lanes = [lane_of(result, mode) for mode in ("orthogonal", "semi")]
    fair = lane_of(result, "true", lam=RESCALED)
    figures = [f"{lane.paper.success:.3f}" for lane in (*lanes, fair) if lane is not None]
    if len(figures) < 3:
        return "the fenced grid was not run"
    sentence = "behind the fence: success {} orthogonal, {} semi-gradient, {} true gradient with its own λ"
    return sentence.format(*figures)
