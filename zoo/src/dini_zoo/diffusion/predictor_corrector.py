r"""Samplers of the reverse SDE: a predictor steps in time, a corrector takes Langevin steps at a fixed time.

Each predictor is affine in the point, the score and the noise, so it is three numbers of a step:

.. math:: m = c_x x + c_s \nabla \log p_t(x), \qquad x' = m + c_z z.

References
----------
Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, "Score-based generative modeling through stochastic differential
equations", ICLR 2021 (arXiv 2011.13456).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, known, positive, same_shape

from .processes import VESDE, VPSDE, Field, Process, SubVPSDE


class Step(NamedTuple):
    """A step from `t` to `next`, the `index`-th from 0 of `count`."""

    t: Any
    next: Any
    index: Any
    count: int

    @property
    def place(self) -> Any:
        """Its place in the table of the process' steps, which begins at the data."""
        return self.count - 1 - self.index


class Affine(NamedTuple):
    """The three numbers of a predictor's step."""

    keep: Any
    score: Any
    noise: Any


#: The numbers of a step of a process.
type Predictor = Callable[[Process, Step], Affine]


def euler_maruyama(process: Process, step: Step) -> Affine:
    """Euler's rule for the reverse SDE, with steps of one over their number."""
    h = 1 / step.count
    g = process.diffusion(step.t)
    return Affine(1 - process.rate(step.t) * h, g**2 * h, g * jnp.sqrt(h))


def _beta(process: VPSDE | SubVPSDE, step: Step) -> Any:
    """The variance of a step of the discrete chain, which must be below one."""
    n = step.count
    if known(process.beta_max) and n <= process.beta_max:
        raise ValueError(
            f"num_steps must exceed beta_max, {process.beta_max:g}, for the process to have a discrete chain: given "
            f"{n}. Take more steps, or euler_maruyama without a corrector."
        )
    return (process.beta_min + step.place / max(n - 1, 1) * (process.beta_max - process.beta_min)) / n


def _difference(process: VESDE, step: Step) -> tuple[Any, Any]:
    """The variances of a step's two ends; the last one ends at the data."""
    last = jnp.asarray(step.index) == step.count - 1
    return process.sigma(step.t) ** 2, jnp.where(last, 0.0, process.sigma(step.next) ** 2)


def reverse_diffusion(process: Process, step: Step) -> Affine:
    r"""The reverse of the process' own discrete chain.

    VE: :math:`m = x + D s`, noise :math:`\sqrt D`, with :math:`D = \sigma_i^2 - \sigma_{i-1}^2`. VP: :math:`m = (2 -
    \sqrt{1 - \beta_i}) x + \beta_i s`, noise :math:`\sqrt{\beta_i}`. Any other process: Euler's rule.
    """
    if isinstance(process, VESDE):
        here, there = _difference(process, step)
        return Affine(1.0, here - there, jnp.sqrt(here - there))
    if isinstance(process, VPSDE):
        beta = _beta(process, step)
        return Affine(2 - jnp.sqrt(1 - beta), beta, jnp.sqrt(beta))
    return euler_maruyama(process, step)


def ancestral(process: Process, step: Step) -> Affine:
    r"""Ancestral sampling of the discrete chain, for VE and VP; `ValueError` for another process, which has none."""
    if isinstance(process, VESDE):
        here, there = _difference(process, step)
        return Affine(1.0, here - there, jnp.sqrt(there * (here - there) / here))
    if isinstance(process, VPSDE):
        beta = _beta(process, step)
        root = jnp.sqrt(1 - beta)
        return Affine(1 / root, beta / root, jnp.sqrt(beta))
    raise ValueError(
        f"ancestral knows the discrete chains of VPSDE and VESDE: given {type(process).__name__}. "
        "Take reverse_diffusion or euler_maruyama."
    )


def probability_flow(process: Process, step: Step) -> Affine:
    """The rule of `reverse_diffusion` for the probability flow: half of the score and no noise."""
    rule = reverse_diffusion(process, step)
    return Affine(rule.keep, 0.5 * rule.score, 0.0)


class Langevin(NamedTuple):
    r"""Langevin steps at a fixed time, of a size that a ratio of signal to noise sets.

    .. math:: x \leftarrow x + e\, s(x, t) + \sqrt{2 e}\, z, \qquad e = 2 a_i (r\, \|z\| / \|s\|)^2

    with means of the norms over the batch, and :math:`e = 0` where the score is zero. :math:`a_i = 1 - \beta_i` for VP
    and sub-VP, 1 for other processes. The law they leave is off by about :math:`r^2`, however many steps there are.
    """

    snr: float = 0.16
    """:math:`r`."""
    steps: int = 1
    per_sample: bool = False
    """Whether each point has a size of its own, and so does not depend on the others of the batch. The size then
    depends on where the point is, which is a bias of its own in few dimensions."""

    def scale(self, process: Process, step: Step) -> Any:
        """:math:`a_i`."""
        return 1 - _beta(process, step) if isinstance(process, VPSDE | SubVPSDE) else 1.0

    def size(self, scale: Any, score: Array, z: Array) -> Array:
        """:math:`e`, with axes that broadcast against the batch."""
        norms = [jnp.sqrt(jnp.sum(one.reshape(len(one), -1) ** 2, axis=1)) for one in (z, score)]
        if not self.per_sample:
            norms = [jnp.mean(one, keepdims=True) for one in norms]
        # where the score is zero no size has the ratio, and no step is taken
        found = norms[1] > 0
        e = jnp.where(found, 2 * scale * (self.snr * norms[0] / jnp.where(found, norms[1], 1.0)) ** 2, 0.0)
        return e.reshape(e.shape + (1,) * (score.ndim - 1))


#: `project(key, x, mean, t)`: the points and their means after an update, with what is known of them put in.
type Project = Callable[[Array, Array, Array, Any], tuple[Array, Array]]


def pc_sample(
    key: Array,
    process: Process,
    score: Field,
    shape: tuple[int, ...] | None = None,
    *,
    predictor: Predictor = reverse_diffusion,
    corrector: Langevin | None = None,
    num_steps: int = 1000,
    end: float = 1e-3,
    start: Float[Array, "n ..."] | None = None,
    project: Project | None = None,
    denoise: bool = True,
) -> Float[Array, "n ..."]:
    """Draw from the reverse SDE, at every time the corrector's steps first, then the predictor's.

    The score is called once for each of these steps: `num_steps * (corrector.steps + 1)` times.

    Parameters
    ----------
    key
        Of all noise.
    process, score
        The score of a batch `(n, ...)` and a time.
    shape
        Of what is drawn, the batch first; not needed where `start` is given.
    predictor
        `euler_maruyama`, `reverse_diffusion`, `ancestral`, `probability_flow`, or any function like these; `None` for a
        corrector alone.
    corrector
        :class:`Langevin`, or none.
    num_steps
        Times, equidistant from 1 to `end`.
    end
        Where it stops, above 0 and below 1: some 1e-3 for VP and sub-VP, 1e-5 for VE.
    start
        Points at time 1; drawn if they are not given.
    project
        What is known of the points, put in after every update: see :func:`..score_sde.observe_mask`.
    denoise
        Whether to return the last mean, without its noise.

    Raises
    ------
    ValueError
        For fewer than two steps, an end that is not within (0, 1), a ratio that is not positive, a predictor that the
        process does not have, and a score whose shape is not that of the points.
    """
    at_least("num_steps", num_steps, 2)
    if known(end) and not 0 < end < 1:
        raise ValueError(f"end must be within (0, 1), where the reverse equation holds: given {end}.")
    if corrector is not None:
        positive("snr", corrector.snr)
        at_least("steps of the corrector", corrector.steps, 0)
    if predictor is None and corrector is None:
        raise ValueError("A sampler needs a predictor or a corrector: given neither.")
    if start is None and shape is None:
        raise ValueError("shape must be given where start is not.")
    first, key = jax.random.split(key)
    x = process.prior_sample(first, shape) if start is None else start
    times = jnp.linspace(1.0, end, num_steps, dtype=x.dtype)
    project = project or (lambda key, x, mean, t: (x, mean))

    def slope(x: Array, t: Any) -> Array:
        found = score(x, t)
        same_shape("the score", found, "the points", x.shape)
        return found

    def advance(carried: tuple[Array, Array], given: Any) -> Any:
        x, mean = carried
        t, following, index, key = given
        step = Step(t, following, index, num_steps)
        for_corrector, for_predictor = jax.random.split(key)
        if corrector is not None:
            scale = corrector.scale(process, step)

            def correct(carried: tuple[Array, Array], key: Array) -> Any:
                x, mean = carried
                noise, known = jax.random.split(key)
                z, s = jax.random.normal(noise, x.shape, x.dtype), slope(x, t)
                e = corrector.size(scale, s, z)
                mean = x + e * s
                return project(known, mean + jnp.sqrt(2 * e) * z, mean, t), None

            (x, mean), _ = jax.lax.scan(correct, (x, mean), jax.random.split(for_corrector, corrector.steps))
        if predictor is not None:
            rule = predictor(process, step)
            noise, known = jax.random.split(for_predictor)
            mean = (rule.keep * x + rule.score * slope(x, t)).astype(x.dtype)
            moved = (mean + rule.noise * jax.random.normal(noise, x.shape, x.dtype)).astype(x.dtype)
            x, mean = project(known, moved, mean, t)
        return (x, mean), None

    following = jnp.append(times[1:], jnp.zeros(1, x.dtype))
    given = (times, following, jnp.arange(num_steps), jax.random.split(key, num_steps))
    (x, mean), _ = jax.lax.scan(advance, (x, x), given)
    return mean if denoise else x
