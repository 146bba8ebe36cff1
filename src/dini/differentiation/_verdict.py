"""The message about a derivative's accuracy: verdicts, their figures, and the exception for a bad one."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..explanations import ends
from ..status import DerivativeError, Status

#: A verdict is good up to this estimated relative error of the derivative.
TOLERANCE = 1e-2


class Verdict(enum.IntEnum):
    """What to think of a derivative; ``RELIABLE`` (zero) is the only good one."""

    RELIABLE = 0
    UNCONVERGED = 1
    LINEAR_SOLVE = 2
    ILL_CONDITIONED = 3
    TIE = 4
    NONFINITE = 5
    NO_MINIMUM = 6

    @property
    def explanation(self) -> str:
        """What was seen, and the remedy."""
        return ends.OF_DERIVATIVES[self.name]


class Certificate(NamedTuple):
    r"""What is known of a derivative's accuracy; constants of differentiation, one of each a lane under ``vmap``.

    Attributes
    ----------
    figures
        All of them as one small array (each array that leaves a compiled program costs time), in the order of the
        properties below, from which they are to be read.
    """

    figures: Any

    @classmethod
    def of(cls, *figures: Any) -> Certificate:
        """Build a certificate from its figures."""
        dtype = trees.single(jnp.result_type(*figures[:-1]))
        return cls(jax.lax.stop_gradient(jnp.stack([jnp.asarray(figure, dtype) for figure in figures])))

    @property
    def residual(self) -> Any:
        r""":math:`\|F(x)\|`, the optimality residual at the point."""
        return self.figures[..., 0]

    @property
    def linear_residual(self) -> Any:
        """The true relative residual of the derivative's linear system.

        Of Euclidean norms, or of largest elements where the system was factorized.
        """
        return self.figures[..., 1]

    @property
    def condition(self) -> Any:
        r"""Estimate (from below) of the condition number :math:`\|A\|\,\|A^{-1}\|`."""
        return self.figures[..., 2]

    @property
    def margin(self) -> Any:
        """Distance of the projection's or proximal operator's argument from its nearest kink.

        Infinite where there is none, NaN where it is not known.
        """
        return self.figures[..., 3]

    @property
    def solution_error(self) -> Any:
        r"""Estimate of the distance :math:`\|x - x^*\|` to the solution."""
        return self.figures[..., 4]

    @property
    def error(self) -> Any:
        """Estimate of the derivative's relative error, with a safety factor; infinite where nothing is known of it."""
        return self.figures[..., 5]

    @property
    def verdict(self) -> Any:
        """A :class:`Verdict` as an integer."""
        return self.figures[..., 6].astype(jnp.int32)

    @property
    def reliable(self) -> Any:
        """Whether the verdict is good (an array under ``jit`` and ``vmap``)."""
        return self.figures[..., 6] == Verdict.RELIABLE

    @property
    def message(self) -> str:
        """The verdict in words; of concrete values only, the worst lane's under ``vmap``."""
        return _explained(np.asarray(self.figures))


def _explained(figures: np.ndarray) -> str:
    return ends.for_precision(Verdict(int(np.max(figures[..., 6]))).explanation, figures.dtype)


def failure(figures: Any, name: str) -> DerivativeError:
    """Return the exception for a bad verdict, from the concrete figures of a :class:`Certificate`."""
    c = Certificate(np.asarray(figures))
    verdict = Verdict(int(c.verdict))
    return DerivativeError(
        f"The derivative of {name} is unreliable: {verdict.name}. {_explained(c.figures)} "
        f"(estimated relative error of the derivative {c.error:.1e}, distance to the solution {c.solution_error:.1e}, "
        f"optimality residual {c.residual:.1e}, relative residual of the linear system {c.linear_residual:.1e}, "
        f"condition number {c.condition:.1e}, distance to the nearest kink {c.margin:.1e}.) "
        'To get this derivative anyway, pass on_failure="ignore".',
        _STATUS[verdict],
    )


_STATUS = {
    Verdict.RELIABLE: Status.CONVERGED,
    Verdict.UNCONVERGED: Status.CONDITION,
    Verdict.LINEAR_SOLVE: Status.SINGULAR,
    Verdict.ILL_CONDITIONED: Status.SINGULAR,
    Verdict.TIE: Status.SINGULAR,
    Verdict.NONFINITE: Status.NONFINITE,
    Verdict.NO_MINIMUM: Status.CONDITION,
}
