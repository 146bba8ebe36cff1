r"""Named stochastic bilevel methods: settings of :class:`Stochastic`, each with its update and its source.

Symbols are those of :class:`Bilevel`: the unknowns :math:`x` and :math:`\theta`, the adjoint :math:`v`, and the
directions :math:`D_x, D_v, D_\theta`; a hat is an estimate on batches.
"""

from __future__ import annotations

from typing import Any

from ._adjoints import Lanczos, LinearSGD, Plane, RandomTerm
from ._estimators import SAGA, SPIDER, STORM
from ._problem import Bilevel
from ._stochastic import Stochastic


def SOBA(problem: Bilevel, *, inner_step: Any, outer_step: Any, adjoint_step: Any = None) -> Stochastic:
    r"""Return the method that moves all three unknowns at once, along plain estimates on one batch of each kind.

    .. math:: x \leftarrow x - \rho \hat D_x, \quad v \leftarrow v - \rho \hat D_v, \quad
              \theta \leftarrow \theta - \gamma \hat D_\theta

    All at the same point. With constant steps it ends in a neighbourhood of the solution as large as they are; with
    steps of order :math:`k^{-1/2}` it converges.

    References
    ----------
    Dagréou, Ablin, Vaiter, Moreau, "A framework for bilevel optimization that enables stochastic and global variance
    reduction algorithms", NeurIPS 2022 (arXiv 2201.13409), algorithm 1 with equation (8).
    """
    return Stochastic(problem, inner_step, outer_step, adjoint_step)


def MASOBA(
    problem: Bilevel, *, inner_step: Any, outer_step: Any, adjoint_step: Any = None, average: Any = 0.1
) -> Stochastic:
    r"""Return SOBA with a moving average of the hypergradient's estimates.

    .. math:: h \leftarrow (1 - a) h + a \hat D_\theta, \qquad \theta \leftarrow \theta - \gamma h

    Its rate needs less smoothness than SOBA's. (In the paper, the step is taken along the average before the update.)

    References
    ----------
    Chen, Xiao, Balasubramanian, "Optimal algorithms for stochastic bilevel optimization under relaxed smoothness
    conditions", JMLR 2024 (arXiv 2306.12067).
    """
    return Stochastic(problem, inner_step, outer_step, adjoint_step, average=average)


def SABA(problem: Bilevel, *, inner_step: Any, outer_step: Any, adjoint_step: Any = None) -> Stochastic:
    r"""Return SOBA with the estimates of :class:`SAGA` for each of the terms, which makes constant steps converge.

    The five sums (:math:`\nabla_1 g`, :math:`\nabla_{11}^2 g\,v`, :math:`\nabla_{21}^2 g\,v` over the inner batches,
    :math:`\nabla_1 f`, :math:`\nabla_2 f` over the outer ones) have a table each. Batches must be numbered.

    References
    ----------
    Dagréou et al., NeurIPS 2022 (arXiv 2201.13409), section 3.2.
    """
    return Stochastic(problem, inner_step, outer_step, adjoint_step, estimator=SAGA())


def SRBA(
    problem: Bilevel,
    *,
    inner_step: Any,
    outer_step: Any,
    adjoint_step: Any = None,
    period: int = 64,
    radius: Any = None,
) -> Stochastic:
    r"""Return SOBA with the estimates of :class:`SPIDER`, from exact directions every ``period`` steps.

    :math:`D^k = \hat D(u^k) - \hat D(u^{k-1}) + D^{k-1}` of all three directions on the same batches, with the adjoint
    kept in a ball of the given radius. Batches must be numbered.

    References
    ----------
    Dagréou, Moreau, Vaiter, Ablin, "A lower bound and a near-optimal algorithm for bilevel empirical risk
    minimization", AISTATS 2024 (arXiv 2302.08766).
    """
    return Stochastic(problem, inner_step, outer_step, adjoint_step, estimator=SPIDER(period), radius=radius)


def AmIGO(
    problem: Bilevel,
    *,
    inner_step: Any,
    outer_step: Any,
    adjoint_step: Any = None,
    inner_steps: int = 10,
    adjoint_steps: int = 10,
) -> Stochastic:
    r"""Return the method of two warm inner loops.

    ``inner_steps`` times :math:`x \leftarrow x - \rho \hat D_x`, from the last ``x``; ``adjoint_steps`` times
    :math:`v \leftarrow v - \rho_v \hat D_v` at the new ``x``, from the last ``v``; then
    :math:`\theta \leftarrow \theta - \gamma \hat D_\theta`.

    References
    ----------
    Arbel, Mairal, "Amortized implicit differentiation for stochastic bilevel optimization", ICLR 2022 (arXiv
    2111.14580), algorithms 1 to 3.
    """
    adjoint = LinearSGD(adjoint_steps)
    return Stochastic(problem, inner_step, outer_step, adjoint_step, inner_steps, adjoint, simultaneous=False)


def StocBiO(
    problem: Bilevel,
    *,
    inner_step: Any,
    outer_step: Any,
    adjoint_step: Any = None,
    inner_steps: int = 10,
    adjoint_steps: int = 10,
) -> Stochastic:
    r"""Return the method with a warm inner loop and a Neumann series for the adjoint, from zero at each step.

    .. math:: v = -\rho_v \sum_{q=0}^{Q-1} \prod_{j=Q-q}^{Q-1} (I - \rho_v H_j)\, \nabla_1 f

    with each factor on a batch of its own, by Horner's scheme: :math:`Q` steps of :class:`LinearSGD` from zero. The
    series is cut off, so that the hypergradient is off by the power :math:`(1 - \rho_v \mu)^Q`.

    References
    ----------
    Ji, Yang, Liang, "Bilevel optimization: convergence analysis and enhanced design", ICML 2021 (arXiv 2010.07962),
    algorithms 2 and 3.
    """
    adjoint = LinearSGD(adjoint_steps, warm=False)
    return Stochastic(problem, inner_step, outer_step, adjoint_step, inner_steps, adjoint, simultaneous=False)


def FSLA(problem: Bilevel, *, inner_step: Any, outer_step: Any, adjoint_step: Any = None, eta: Any = 0.1) -> Stochastic:
    r"""Return the single loop whose parts follow one another, with a corrected momentum of the hypergradient.

    One step of ``x``; one of ``v`` at the new ``x``; then, with :class:`STORM` at the new ``x`` and ``v``,

    .. math:: h^k = \hat D_\theta(u^k) + (1 - \eta)\,(h^{k-1} - \hat D_\theta(u^{k-1})), \qquad
              \theta \leftarrow \theta - \gamma h^k .

    References
    ----------
    Li, Gu, Huang, "A fully single loop algorithm for bilevel optimization without Hessian inverse", AAAI 2022 (arXiv
    2112.04660).
    """
    return Stochastic(problem, inner_step, outer_step, adjoint_step, outer_estimator=STORM(eta), simultaneous=False)


def TTSA(
    problem: Bilevel, *, inner_step: Any, outer_step: Any, adjoint_step: Any = None, terms: int = 10, seed: int = 0
) -> Stochastic:
    r"""Return the method of two time scales, with one inner step and a random term of the Neumann series.

    :math:`x \leftarrow x - \rho_k \hat D_x`, then the adjoint of :class:`RandomTerm`, then :math:`\theta \leftarrow
    \theta - \gamma_k \hat D_\theta`. The inner steps shrink more slowly: the paper takes :math:`\rho_k \sim k^{-2/5}`,
    :math:`\gamma_k \sim k^{-3/5}` for strongly convex inner problems; both may be functions of the step's number.
    ``adjoint_step`` is one over the largest eigenvalue of the Hessian, or less.

    References
    ----------
    Hong, Wai, Wang, Yang, "A two-timescale stochastic algorithm framework for bilevel optimization", SIAM J. Optim.
    2023 (arXiv 2007.05170).
    """
    adjoint = RandomTerm(terms, seed)
    return Stochastic(problem, inner_step, outer_step, adjoint_step, adjoint=adjoint, simultaneous=False)


def SubBiO(
    problem: Bilevel, *, inner_step: Any, outer_step: Any, adjoint_step: Any = None, inner_steps: int = 1
) -> Stochastic:
    r"""Return the method whose adjoint is the best one in a plane that is kept from step to step: :class:`Plane`.

    References
    ----------
    Yang, Yin, Zhang, Zhou, Wen, "LancBiO: dynamic Lanczos-aided bilevel optimization via Krylov subspace", ICLR 2025
    (arXiv 2404.03331).
    """
    return Stochastic(problem, inner_step, outer_step, adjoint_step, inner_steps, Plane(), simultaneous=False)


def LancBiO(
    problem: Bilevel,
    *,
    inner_step: Any,
    outer_step: Any,
    adjoint_step: Any = None,
    inner_steps: int = 1,
    size: int = 10,
) -> Stochastic:
    r"""Return the method whose adjoint is of a Krylov space that grows from step to step: :class:`Lanczos`.

    References
    ----------
    Yang, Yin, Zhang, Zhou, Wen, "LancBiO: dynamic Lanczos-aided bilevel optimization via Krylov subspace", ICLR 2025
    (arXiv 2404.03331).
    """
    return Stochastic(problem, inner_step, outer_step, adjoint_step, inner_steps, Lanczos(size), simultaneous=False)
