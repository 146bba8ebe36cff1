"""The experiment's picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures
from dini_zoo.kit.seeds import Estimate

from .images import Images
from .sequences import Case
from .study import Coupling, Result
from .tokens import Tokens


def draw(result: Result) -> Figure:
    """Acceptance and tokens for each call by draft length, distances, the coupling; digits."""
    figure = pictures.canvas("Drafts of a small model, checked by a large one: its law, in fewer calls", height=7)
    above, below = figure.subfigures(2, 1, height_ratios=(2.9, 1))
    accepted, calls, distances, plan = above.subplots(1, 4)
    panels = below.subplots(1, 3)
    length = result.settings.length
    if result.sequences:
        draw_sequences(accepted, calls, result.sequences, length)
    if result.images:
        draw_digits(accepted, calls, result.images, result.settings.gamma)
        for axes, (name, images) in zip(panels, result.images[0].shown.items(), strict=True):
            axes.imshow(pictures.mosaic(np.clip(images, -1, 1), 10, low=-1, high=1))
            axes.set_title(name)
    if result.sequences or result.images:
        accepted.set_title("accepted, of the drafts\nthat were tested")
        calls.set_title("tokens for each call of the target\n(dotted: independent acceptances)")
        for axes in (accepted, calls):
            axes.set_xlabel("draft length γ")
        accepted.legend(fontsize=8, loc="upper right")
        accepted.set_ylim(0, 0.85)
    if result.tokens:
        draw_distances(distances, result.tokens)
    if result.coupling:
        draw_plan(plan, result.coupling)
    for axes in (accepted, calls, distances, plan, *panels):
        if not axes.get_title() or axes in panels:
            pictures.bare(axes)
    return figure


def draw_sequences(accepted: Any, calls: Any, sequences: list[list[Case]], length: int) -> None:
    """Of laws in closed form."""
    for name, color, label in (
        ("reflection", pictures.METHOD, "closed form, shared noise"),
        ("unaligned", pictures.QUIET, "closed form, noise of their own"),
    ):
        chosen = [[one for one in cases if one.name == name] for cases in sequences]
        gammas = [one.gamma for one in chosen[0]]
        pictures.band(
            accepted, gammas, [[one.acceptance for one in cases] for cases in chosen], color=color, label=label
        )
        pictures.band(
            calls, gammas, [[length / one.calls for one in cases] for cases in chosen], color=color, label=label
        )
        if name == "reflection":
            ideal = [expected(np.mean([cases[i].acceptance for cases in chosen]), g) for i, g in enumerate(gammas)]
            calls.plot(gammas, ideal, ":", color=color)


def expected(acceptance: Any, gamma: int) -> float:
    """Tokens for each call where acceptances are independent and sequences have no end."""
    return float(np.sum(acceptance ** np.arange(gamma + 1)))


def draw_digits(accepted: Any, calls: Any, images: list[Images], gamma: int) -> None:
    """Of the networks."""
    gammas = list(images[0].acceptance)
    shared = [list(one.acceptance.values()) for one in images]
    pictures.band(accepted, gammas, shared, color=pictures.RIVAL, label="digits, shared noise")
    for one in images:
        label = "digits, noise of their own" if one is images[0] else None
        accepted.plot(gamma, one.acceptance_unaligned, "x", color=pictures.RIVAL, label=label)
    per_call = [list(one.per_call.values()) for one in images]
    pictures.band(calls, gammas, per_call, color=pictures.RIVAL, label="digits, shared noise")


def draw_distances(axes: Any, tokens: list[Tokens]) -> None:
    """Of single tokens."""
    names = {
        "rejection": "exact, rejection",
        "reflection": "exact, reflection",
        "other variances, exact": "exact, other variances",
        "other variances, published": "published, other variances",
        "draft": "draft alone",
    }
    colors = (pictures.METHOD, pictures.METHOD, pictures.METHOD, pictures.RIVAL, pictures.QUIET)
    for i, (name, color) in enumerate(zip(names, colors, strict=True)):
        found = Estimate.of(one.distances[name] for one in tokens)
        axes.barh(-i, found.mean, color=color)
        axes.annotate(f" {found.mean:.4f}", (found.mean, -i), va="center", fontsize=9)
    axes.set_yticks([-i for i in range(len(names))], [name.replace(", ", ",\n") for name in names.values()], fontsize=9)
    axes.grid(False, axis="y")
    axes.margins(x=0.25)
    axes.set_title("single tokens: Kolmogorov's\ndistance to the target")


def draw_plan(axes: Any, coupling: Coupling) -> None:
    """The transport that dini finds, which is the coupling by reflection."""
    edge = (coupling.grid[0], coupling.grid[-1])
    axes.imshow(np.sqrt(coupling.plan.T), origin="lower", extent=(*edge, *edge), cmap="Blues")
    axes.set_xlabel("draft x")
    axes.set_ylabel("token")
    axes.grid(False)
    axes.set_title("optimal transport of two Gaussians:\nkept, or reflected")
