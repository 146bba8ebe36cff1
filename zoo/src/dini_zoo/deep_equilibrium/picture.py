"""The experiment's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from .experiment import Result


def draw(result: Result) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    for name, course in result.courses.items():
        axes.plot(course.loss, label=name)
    axes.legend()
    return figure
