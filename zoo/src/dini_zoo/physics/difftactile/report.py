"""What the experiment prints. References were computed for the specification, with other code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dini_zoo.kit.seeds import Estimate
from dini_zoo.kit.tables import Check, Table, at_least, at_most, between, duration

from .equilibrium import Pressed
from .seeing import Seen
from .study import Calibrated, Calibration, Controlled, Result

NAMES = ("E", "kn", "μ_f")
BARS = {"E": 0.05, "kn": 0.05, "μ_f": 0.15}
REFERENCES = {"E": 1.010, "kn": 1.020, "μ_f": 0.928}


def tables(result: Result) -> list[Table]:
    """Calibration, control, the optical network, equilibrium."""
    settings = result.settings
    return [
        *([calibration_table(result.calibration)] if result.calibration else []),
        *([motion_table(result.calibration)] if result.calibration else []),
        *([control_table(result.control, settings.control_generations)] if result.control else []),
        *([optics_table(result.optics)] if result.optics else []),
        *([equilibrium_table(result)] if result.equilibrium or result.dome else []),
    ]


def ratios(values: np.ndarray) -> list[str]:
    """Three factors."""
    return [f"{value:.3f}" for value in values]


def calibration_table(calibration: Calibration) -> Table:
    """What each search found, over the truth."""
    rows: list[list[str] | None] = []
    for one in calibration.searches:
        rows += [
            ["start", *ratios(np.array(one.factors)), f"{one.course[0]:.3f}"],
            ["  gradients", *ratios(one.ratios), f"{one.course[-1]:.1e}"],
            ["  CMA-ES", *ratios(one.evolved), f"{one.evolution[-1]:.1e}"],
        ]
    first = calibration.searches[0]
    caption = (
        f"Over the truth. Gradients: {len(first.course) - 1} simulations with their gradients. CMA-ES: "
        f"{8 * len(first.evolution)} simulations."
    )
    return Table("Calibration", ("", *NAMES, "loss"), rows, caption)


def motion_table(calibration: Calibration) -> Table:
    """Errors on another motion: what a wrong model costs."""
    rows = []
    for name in calibration.searches[0].elsewhere:
        both = np.array([one.elsewhere[name] for one in calibration.searches])
        rows.append([name, *(f"{both[:, i].min():.1%} to {both[:, i].max():.1%}" for i in range(2))])
    return Table("On a motion that was not seen: relative errors", ("parameters", "forces", "markers"), rows)


def control_table(control: Controlled, generations: int) -> Table:
    """How near each came."""
    rows = [[f"gradients, {len(control.course) - 1} steps", f"{control.course[-1]:.1e}"]]
    rows += [
        [f"CMA-ES, {16 * (i + 1)} simulations", Estimate.of(one[i] for one in control.evolutions).range]
        for i in sorted({min(generations, n) - 1 for n in (8, 15, generations)})
    ]
    caption = (
        f"Errors of the force and the travel by gradients: {control.force_error:+.1%}, {control.travel_error:+.1%}."
    )
    return Table("Control: the objective", ("", "J"), rows, caption)


def optics_table(optics: list[Seen]) -> Table:
    """Errors of colors."""
    of = lambda name: f"{Estimate.of(getattr(one, name) for one in optics):.4f}"
    rows = [["network", of("network")], ["linear in place and normal", of("linear")], ["no change", of("zero")]]
    return Table("Optical response: error over the range", ("", "seeds"), rows)


def equilibrium_table(result: Result) -> Table:
    """Sizes of the sparse systems, and what they cost."""
    block, dome = result.equilibrium, result.dome
    pair = lambda value: [value(one) if one else "" for one in (block, dome)]
    rows = [
        ["tetrahedra", *pair(lambda one: f"{one.tets}")],
        ["unknowns", *pair(lambda one: f"{one.unknowns}")],
        ["nonzeros of the Hessian", *pair(lambda one: f"{one.nonzeros}")],
        ["products with it that would find them, not taken", *pair(lambda one: f"{one.colors}")],
        ["Newton's steps", *pair(lambda one: f"{one.newton}")],
    ]
    if block:
        rows += [
            ["equilibrium and gradient", duration(block.gradient_seconds), ""],
            ["certified error of the gradient", f"{block.estimated:.1e}", ""],
            ["equilibria to identify E, kn", f"{block.solves}", ""],
        ]
    if dome:
        rows += [["equilibrium", "", duration(dome.seconds)], ["force", "", f"{dome.force:.0f}"]]
    caption = ""
    if block:
        worst = np.abs(block.noisy - 1).max()
        caption = f"With noise of {result.settings.noise:.0%}, E and kn are identified within {worst:.1%}."
    return Table("Equilibrium by dini", ("", "block", "dome"), rows, caption)


def checks(result: Result) -> Iterator[Check]:
    """Every bar of the specification, of the worst seed."""
    if result.calibration:
        yield from calibration_checks(result.calibration.searches)
    if result.control:
        yield from control_checks(result.control)
    if result.optics:
        network = max(one.network for one in result.optics)
        ratio = max(one.network / one.linear for one in result.optics)
        yield Check("optics: network", network, at_most(0.015), 0.0099, form=".4f")
        yield Check("optics: network / linear", ratio, at_most(0.6), 0.41, form=".2f")
        yield Check("optics: no change", max(one.zero for one in result.optics), None, 0.108, form=".3f")
    if result.equilibrium:
        yield from equilibrium_checks(result.equilibrium)
    if result.dome:
        yield Check("dome: d markers / d depth − differences", result.dome.slope_error, at_most(1e-4), form=".1e")


def calibration_checks(searches: list[Calibrated]) -> Iterator[Check]:
    """Gradients beside differences, and parameters beside the truth."""
    apart = np.array([np.abs(one.gradient - one.differences) / np.abs(one.differences) for one in searches])
    for i, name in enumerate(NAMES):
        yield Check(f"gradient in {name} − differences", float(apart[:, i].max()), at_most(0.03), form=".1e")
    yield Check("loss at the first start", float(searches[0].course[0]), None, 0.485, form=".3f")
    yield Check("loss after", float(max(one.course[-1] for one in searches)), None, 1.9e-3, form=".1e")
    for i, name in enumerate(NAMES):
        values = [float(one.ratios[i]) for one in searches]
        bar = between(round(1 - BARS[name], 2), round(1 + BARS[name], 2))
        worst = max(values, key=lambda value: abs(value - 1))
        yield Check(f"{name} over the truth", worst, bar, REFERENCES[name], form=".3f")
    evolved = float(max(one.evolution[-1] for one in searches))
    yield Check("CMA-ES: loss", evolved, None, "2e-4 to 1.4e-3", form=".1e")


def control_checks(control: Controlled) -> Iterator[Check]:
    """Gradients must win with 72 unknowns."""
    best = min(float(one[-1]) for one in control.evolutions)
    yield Check("control: J", float(control.course[-1]), None, 1.9e-4, form=".1e")
    yield Check("control: error of the force", abs(control.force_error), at_most(0.05), 0.013, form=".3f")
    yield Check("control: error of the travel", abs(control.travel_error), at_most(0.05), form=".3f")
    yield Check("control: CMA-ES, J of the best seed", best, None, 2.3e-3, form=".1e")
    yield Check("control: J over that", float(control.course[-1]) / best, at_most(0.5), 0.083, form=".2f")


def equilibrium_checks(block: Pressed) -> Iterator[Check]:
    """What is asked of dini."""
    apart = float(np.max(np.abs(block.gradient - block.differences) / np.abs(block.differences)))
    yield Check("equilibrium: tetrahedra", block.tets, at_least(648), form=".0f")
    yield Check("equilibrium: gradient − differences", apart, at_most(1e-5), form=".1e")
    yield Check("equilibrium: certificate reliable", float(block.reliable), at_least(1), form=".0f")
    worst = float(np.max(np.abs(block.ratio - 1)))
    yield Check("equilibrium: E, kn without noise", worst, at_most(1e-4), form=".1e")


def headline(result: Result) -> str:
    """The one figure that matters."""
    if result.control:
        ours, theirs = float(result.control.course[-1]), min(float(one[-1]) for one in result.control.evolutions)
        count = 16 * result.settings.control_generations
        return (
            f"72 velocities to a force and a place: J = {ours:.1e} by {len(result.control.course) - 1} gradients, "
            f"{theirs:.1e} by {count} simulations of CMA-ES"
        ).replace("72", str(result.control.controls.size))
    if result.calibration:
        one = result.calibration.searches[0]
        found = ", ".join(ratios(one.ratios))
        return f"E, kn, μ_f over the truth after {len(one.course) - 1} gradients: {found}"
    if result.optics:
        one = result.optics[0]
        return f"Colors of a dent by the network: error {one.network:.4f} of the range, linear {one.linear:.4f}"
    return "only the equilibrium was found"
