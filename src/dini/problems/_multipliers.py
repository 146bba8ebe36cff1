"""Lagrange multipliers of a program, by kinds of constraints."""

from __future__ import annotations

from typing import Any, NamedTuple


class Multipliers(NamedTuple):
    r"""The multipliers of a program's constraints; ``None`` where there are none of a kind.

    They are those of the Lagrangian :math:`f + \nu^\top h + \lambda^\top g + w^\top x` of equalities :math:`h(x) = 0`,
    inequalities :math:`g(x) \le 0` and bounds :math:`l \le x \le u`. A multiplier is by how much the optimal value
    falls where its constraint is loosened by one (for bounds, its absolute value), and zero where that is not active.

    Attributes
    ----------
    equality
        :math:`\nu`, a tree like what the equalities return.
    inequality
        :math:`\lambda \ge 0`, a tree like what the inequalities return.
    bounds
        :math:`w`, a tree like ``x``: positive at an upper bound, negative at a lower one.
    """

    equality: Any = None
    inequality: Any = None
    bounds: Any = None
