"""Feedback control of stochastic populations by networks that are trained through the populations themselves.

`GrassSheepWolves` and `MetabolicPathway` are the populations. What any other population needs too stands in the
field's modules: `agents` (slots, births, deaths, simulation), `estimators` (derivatives), `mean_field` (fits),
`policies` (controllers, costs, training) and `optimal_control` (plans). The experiment is in `study`, what it prints
in `report`.
"""

from .grass_sheep_wolves import GrassSheepWolves
from .metabolic_pathway import MetabolicPathway

__all__ = ["GrassSheepWolves", "MetabolicPathway"]
