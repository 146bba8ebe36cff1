"""Lagrange multipliers of a program, by kinds of constraints."""

from __future__ import annotations

from typing import Any, NamedTuple


class Multipliers(NamedTuple):
    r"""The multipliers of a program's constraints; ``None`` where there are none of a kind.

    They are those of the Lagrangian :math:`f + \nu^\top h + \lambda^\top g + z_l^\top (l - x) + z_u^\top (x - u)`, of
    equalities :math:`h(x) = 0`, inequalities :math:`g(x) \le 0` and bounds :math:`l \le x \le u`: a multiplier is by
    how much the optimal value falls where its constraint is loosened by one, and zero where it is not active.

    Attributes
    ----------
    equality
        :math:`\nu`, a tree like what the equalities return.
    inequality
        :math:`\lambda \ge 0`, a tree like what the inequalities return.
    lower, upper
        :math:`z_l, z_u \ge 0`, trees like ``x``.
    """

    equality: Any = None
    inequality: Any = None
    lower: Any = None
    upper: Any = None
