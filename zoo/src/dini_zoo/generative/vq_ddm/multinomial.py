r"""Multinomial diffusion: each code is kept with probability :math:`\alpha_t`, and else redrawn among all :math:`K`.

.. math::
    q(z_t \mid z_{t-1}) = \alpha_t\, 1[z_t = z_{t-1}] + \frac{1 - \alpha_t}{K}, \qquad
    q(z_t \mid z_0) = \bar\alpha_t\, 1[z_t = z_0] + \frac{1 - \bar\alpha_t}{K}, \quad
    \bar\alpha_t = \prod_{s \le t} \alpha_s .

Steps are numbered from 0: :math:`z_{-1}` stands for the data below, :math:`\bar\alpha_{-1} = 1`. The law of a step back
given the data has two factors, and the reverse takes a network's law :math:`p_0` of the data in place of a known code:

.. math::
    p(z_{t-1} \mid z_t) \propto \Big[\alpha_t\, 1[z_{t-1} = z_t] + \frac{1 - \alpha_t}{K}\Big]
    \Big[\bar\alpha_{t-1}\, p_0(z_{t-1}) + \frac{1 - \bar\alpha_{t-1}}{K}\Big] .

This plug-in is exact where :math:`p_0` is the law of a code given all *others*: what :math:`z_t` itself tells is in the
first factor already. The mixture :math:`\sum_k p_0(k)\, q(z_{t-1} \mid z_t, k)` is exact for the law given all of
:math:`z_t`. The one is the other with :math:`p_0(k)` divided by :math:`q(z_t \mid k)`: sum over :math:`k` first.

References
----------
Hoogeboom, Nielsen, Jaini, Forré and Welling, "Argmax flows and multinomial diffusion", NeurIPS 2021
(arXiv 2102.05379). Austin, Johnson, Ho, Tarlow and van den Berg, "Structured denoising diffusion models in discrete
state-spaces", NeurIPS 2021 (arXiv 2107.03006), for the mixture. Hu, Wang, Cham, Yang and Suganthan, "Global context
with discrete diffusion in vector quantised modelling for image generation", CVPR 2022 (arXiv 2112.01799).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.diffusion.processes import beside
from dini_zoo.kit.checking import at_least, holds, known, not_negative, of_length, one_of, positive, within

from .schedules import Drawn, ImportanceTimeSampler

#: A network: codes `(n, N)` and a step or one for each of them; logits `(n, N, K)` of the data's codes.
type Logits = Callable[[Any, Any], Any]
#: One for all sequences of a batch, or one for each.
type Step = Int[Array, ""] | Int[Array, " n"] | int
#: In place of the logarithm of zero, for probabilities of codes that are ruled out: 1e-30.
_RULED_OUT = -69.0


def whole_codes(name: str, z: Any, categories: int) -> Array:
    """The codes as an array; raises `ValueError` unless they are whole numbers from 0 to `categories - 1`."""
    z = jnp.asarray(z)
    if not jnp.issubdtype(z.dtype, jnp.integer):
        raise ValueError(f"{name} must be whole numbers, codes from 0 to {categories - 1}: given {z.dtype}.")
    within(name, z, categories)
    return z


def known_codes(shape: tuple[int, ...], known: Any, mask: Any, categories: int) -> tuple[Array, Array]:
    """What is known, in the shape of what is drawn: a mask, and codes, -1 for numbers that are traced and none.

    Raises `ValueError` for what does not broadcast, codes out of range, and a mask of numbers.
    """
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"mask must be of booleans, True where a code is known: given {mask.dtype}.")
    codes = whole_codes("known", known, categories)
    for name, value in (("mask", mask), ("known", codes)):
        # axes of length 1 and missing ones broadcast
        pairs = zip(value.shape[::-1], shape[::-1], strict=False)
        if value.ndim > len(shape) or any(n not in (1, m) for n, m in pairs):
            raise ValueError(f"{name} must broadcast to the shape of what is drawn, {shape}: given {value.shape}.")
    codes = jnp.where((codes >= 0) & (codes < categories), codes, -1)
    return jnp.broadcast_to(mask, shape), jnp.broadcast_to(codes, shape)


def last_of_strides(length: int, count: int) -> Int[np.ndarray, " n"]:
    """Indices of `count` steps of a chain, each the last of a stride, so that the last level of all is among them.

    Raises `ValueError` for a count that is not from 1 to `length`.
    """
    if not 1 <= count <= length:
        raise ValueError(f"steps must be from 1 to {length}, the steps of the diffusion: given {count}.")
    return np.round(np.arange(1, count + 1) * length / count).astype(int) - 1


class Bound(NamedTuple):
    """An estimate of the bound, a number for each sequence of a batch, in nats."""

    t: Int[Array, " n"]
    """The step that was drawn."""
    terms: Float[Array, " n"]
    """The term of that step."""
    probability: Float[Array, " n"]
    """With which it was drawn: the estimate is the term divided by it, plus `prior`."""
    prior: Float[Array, ""]
    """The divergence of the last level from the uniform law."""
    cross_entropy: Float[Array, " n"]
    """Of the network's law of the data."""

    @property
    def nats(self) -> Float[Array, " n"]:
        """The estimate of the bound of each sequence's negative log-likelihood."""
        return self.terms / self.probability + self.prior


def bits(nats: Any, positions: int) -> Any:
    """Bits a position, of nats a sequence."""
    return nats / (positions * np.log(2))


class MultinomialDiffusion(eqx.Module):
    r"""A diffusion of sequences of codes, with its bound and its reverse; a pytree.

    Parameters
    ----------
    log_alpha
        Logarithms of the chance to keep a code in each step, :math:`\log \alpha_0, \dots, \log \alpha_{T-1}`.
    categories
        Codes, :math:`K`.
    steps
        The network's input for each step; the number of the step if it is not given.
    rule
        What a network's probabilities are taken for: `"plug-in"` or `"mixture"`.

    Raises
    ------
    ValueError
        For logarithms that are positive or not finite (alphas themselves, say), fewer than two codes, another rule.

    Examples
    --------
    >>> from dini_zoo.generative.vq_ddm import cosine_alphas
    >>> diffusion = MultinomialDiffusion.of_alphas(cosine_alphas(10), 4)
    >>> code = jax.nn.one_hot(jnp.array([[1]]), 4)
    >>> print(np.exp(diffusion.posterior_logits(jnp.log(code), jnp.array([[2]]), 5)).round(4))
    [[[0.0302 0.316  0.6235 0.0302]]]
    """

    log_alpha: Float[Array, " T"]
    categories: int = eqx.field(static=True)
    steps: Int[Array, " T"]
    rule: str = eqx.field(static=True)

    def __init__(
        self,
        log_alpha: Float[Array, " T"],
        categories: int,
        *,
        steps: Any = None,
        rule: str = "plug-in",
    ):
        log_alpha = jnp.asarray(log_alpha) * 1.0
        if log_alpha.ndim != 1 or not len(log_alpha):
            raise ValueError(f"log_alpha must be of shape (T,), a number for each step: given {log_alpha.shape}.")
        holds(
            log_alpha,
            lambda log_alpha: (log_alpha <= 0) & (log_alpha > -np.inf),
            lambda: (
                "log_alpha must be logarithms of chances in (0, 1], so at most 0 and finite: given "
                f"{np.asarray(log_alpha)}. Of the chances themselves: `MultinomialDiffusion.of_alphas`."
            ),
        )
        at_least("categories", categories, 2)
        one_of("rule", rule, ("plug-in", "mixture"))
        self.log_alpha, self.categories, self.rule = log_alpha, categories, rule
        self.steps = jnp.arange(len(log_alpha)) if steps is None else jnp.asarray(steps)
        if self.steps.shape != log_alpha.shape:
            raise ValueError(f"steps must have the shape of log_alpha, {log_alpha.shape}: given {self.steps.shape}.")

    @classmethod
    def of_alphas(cls, alphas: Float[Array, " T"], categories: int, **options: Any) -> MultinomialDiffusion:
        """With the chances to keep a code themselves."""
        positive("alphas", alphas)
        # known ones in double precision: near 1 their logarithms are small
        return cls(np.log(alphas) if known(alphas) else jnp.log(alphas), categories, **options)

    def __len__(self) -> int:
        return len(self.log_alpha)

    @property
    def log_alpha_bar(self) -> Float[Array, " T"]:
        r""":math:`\log \bar\alpha_0, \dots, \log \bar\alpha_{T-1}`."""
        return jnp.cumsum(self.log_alpha)

    def respaced(self, steps: Any) -> MultinomialDiffusion:
        """The diffusion of some of the steps, by indices that rise; a network is given the original ones.

        Raises `ValueError` for indices that repeat, fall, are out of range, or leave out the last one, the only level
        that is close to the uniform law.
        """
        steps = np.asarray(steps)
        rises = steps.ndim == 1 and len(steps) and np.all(np.diff(steps) > 0)
        if not (rises and steps[0] >= 0 and steps[-1] == len(self) - 1):
            raise ValueError(f"steps must rise from 0 or more to the last, {len(self) - 1}: given {steps}.")
        levels = self.log_alpha_bar[steps]
        log_alpha = jnp.diff(levels, prepend=jnp.zeros_like(levels, shape=(1,)))
        return MultinomialDiffusion(log_alpha, self.categories, steps=self.steps[steps], rule=self.rule)

    # laws, as logarithms

    def log_onehot(self, z: Int[Array, "*n"]) -> Float[Array, "*n K"]:
        """The law of a known code, with 1e-30 for the others; NaN for a number that is no code."""
        dtype = self.log_alpha.dtype
        one = jnp.where(z[..., None] == jnp.arange(self.categories), 0.0, _RULED_OUT).astype(dtype)
        return jnp.where(((z >= 0) & (z < self.categories))[..., None], one, jnp.nan)

    def _mixed(self, log_x: Array, log_level: Array) -> Array:
        r""":math:`\log(a\, x + (1 - a) / K)`, with :math:`a` between 0 and 1."""
        log_level = beside(log_level, log_x)
        floor = jnp.log(jnp.finfo(log_x.dtype).tiny)
        # log(1 - a): near a = 1 from the small number itself
        rest = jnp.log(jnp.maximum(-jnp.expm1(log_level), jnp.finfo(log_x.dtype).tiny))
        return jnp.logaddexp(jnp.maximum(log_level + log_x, floor), rest - np.log(self.categories))

    def q_logits(self, log_x0: Float[Array, "n N K"], t: Step) -> Float[Array, "n N K"]:
        r""":math:`\log q(z_t \mid z_0)` after step `t`, or one for each sequence, for data with a law."""
        within("t", t, len(self))
        return self._mixed(log_x0, self.log_alpha_bar[t])

    def posterior_logits(self, log_x0: Float[Array, "n N K"], z_t: Int[Array, "n N"], t: Step) -> Float[Array, "n N K"]:
        r""":math:`\log q(z_{t-1} \mid z_t, z_0)`, normalized: for data with a law, the plug-in form.

        At `t = 0` it is the law of the data.
        """
        within("t", t, len(self))
        before = jnp.concatenate([jnp.zeros_like(self.log_alpha[:1]), self.log_alpha_bar[:-1]])
        stays = self._mixed(self.log_onehot(z_t), self.log_alpha[t])
        return jax.nn.log_softmax(stays + self._mixed(log_x0, before[t]), axis=-1)

    def denoised_logits(self, log_x0: Float[Array, "n N K"], z_t: Int[Array, "n N"], t: Step) -> Float[Array, "n N K"]:
        r""":math:`\log q(z_0 \mid z_t)` where `log_x0` is the law of each code given the other positions alone."""
        return jax.nn.log_softmax(log_x0 + self.q_logits(self.log_onehot(z_t), t), axis=-1)

    def others_logits(self, log_x0: Float[Array, "n N K"], z_t: Int[Array, "n N"], t: Step) -> Float[Array, "n N K"]:
        """The inverse of `denoised_logits`: the law given the other positions alone."""
        return jax.nn.log_softmax(log_x0 - self.q_logits(self.log_onehot(z_t), t), axis=-1)

    def reverse_logits(self, logits: Float[Array, "n N K"], z_t: Int[Array, "n N"], t: Step) -> Float[Array, "n N K"]:
        r""":math:`\log p(z_{t-1} \mid z_t)` by the rule, from a network's logits of the data."""
        log_x0 = jax.nn.log_softmax(logits, axis=-1)
        if self.rule == "mixture":
            log_x0 = self.others_logits(log_x0, z_t, t)
        return self.posterior_logits(log_x0, z_t, t)

    # the bound

    @property
    def prior(self) -> Float[Array, ""]:
        """The divergence of a position's last level from the uniform law: the same for each code."""
        K, level = self.categories, jnp.exp(self.log_alpha_bar[-1])
        stay, other = level + (1 - level) / K, (1 - level) / K
        # at alpha_bar = 1 the others have no chance
        lost = jnp.where(level < 1, jnp.log1p(-jnp.where(level < 1, level, 0.0)), 0.0)
        return stay * jnp.log1p((K - 1) * level) + (K - 1) * other * lost

    def terms(self, logits: Float[Array, "n N K"], z0: Int[Array, "n N"], z_t: Int[Array, "n N"], t: Step) -> Array:
        r"""The bound's term at step `t`, a sum over positions for each sequence, in nats.

        .. math::
            L_t = \mathrm{KL}\big(q(z_{t-1} \mid z_t, z_0) \,\|\, p(z_{t-1} \mid z_t)\big), \qquad
            L_0 = -\log p(z_0 \mid z_t \text{ at } t = 0).
        """
        ours = self.reverse_logits(logits, z_t, t)
        truth = self.posterior_logits(self.log_onehot(z0), z_t, t)
        divergence = jnp.sum(jnp.exp(truth) * (truth - ours), axis=-1)
        surprise = -jnp.take_along_axis(ours, z0[..., None], axis=-1)[..., 0]
        first = jnp.broadcast_to(jnp.asarray(t) == 0, z0.shape[:1])
        return jnp.sum(jnp.where(first[:, None], surprise, divergence), axis=-1)

    def noised(self, key: Array, z0: Int[Array, "n N"], t: Step) -> Int[Array, "n N"]:
        """Draws :math:`z_t` given the data; -1 for numbers that are traced and no codes."""
        z0 = whole_codes("z0", z0, self.categories)
        logits = self.q_logits(self.log_onehot(z0), t)
        drawn = jax.random.categorical(key, logits).astype(z0.dtype)
        return jnp.where(jnp.isfinite(logits[..., 0]), drawn, -1)

    def estimate(
        self, logits_fn: Logits, key: Array, z0: Int[Array, "n N"], times: ImportanceTimeSampler | None = None
    ) -> Bound:
        """The bound with one random step for each sequence, drawn by `times`, or uniformly.

        A training that draws by importance goes on with `times.updated(bound.t, bound.terms)`.
        """
        z0 = self._sequences("z0", z0)
        for_times, for_noise = jax.random.split(key)
        if times is None:
            t = jax.random.randint(for_times, (len(z0),), 0, len(self))
            drawn = Drawn(t, jnp.full(len(z0), 1 / len(self)))
        else:
            of_length("times", times.probabilities, "the diffusion's steps", len(self))
            drawn = times.sample(for_times, len(z0))
        z_t = self.noised(for_noise, z0, drawn.t)
        logits = self._told(logits_fn, z_t, self.steps[drawn.t])
        of_data = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), z0[..., None], axis=-1)[..., 0]
        return Bound(
            drawn.t,
            self.terms(logits, z0, z_t, drawn.t),
            drawn.probability,
            z0.shape[1] * self.prior,
            -jnp.sum(of_data, axis=-1),
        )

    def loss(
        self,
        logits_fn: Logits,
        key: Array,
        z0: Int[Array, "n N"],
        *,
        times: ImportanceTimeSampler | None = None,
        cross_entropy: float = 0.0,
    ) -> Float[Array, ""]:
        """The mean of the estimates, in nats a sequence, plus a weight times the cross-entropy of the network's law.

        Examples
        --------
        >>> from dini_zoo.generative.vq_ddm import cosine_alphas
        >>> diffusion = MultinomialDiffusion.of_alphas(cosine_alphas(20), 3)
        >>> z0 = jnp.zeros((40_000, 2), int)
        >>> loss = diffusion.loss(lambda z, t: jnp.zeros((*z.shape, 3)), jax.random.key(0), z0)
        >>> bool(abs(loss - 2 * jnp.log(3.0)) < 0.15)  # uniform guesses: log 3 for each of two codes
        True
        """
        not_negative("cross_entropy", cross_entropy)
        found = self.estimate(logits_fn, key, z0, times)
        return jnp.mean(found.nats + cross_entropy * found.cross_entropy)

    def bound(self, logits_fn: Logits, key: Array, z0: Int[Array, "n N"]) -> Float[Array, " n"]:
        """The sum over all steps, with one draw of :math:`z_t` at each: nats of each sequence, for tests."""
        z0 = self._sequences("z0", z0)

        def term(total: Array, given: tuple[Array, Array]) -> tuple[Array, None]:
            t, key = given
            z_t = self.noised(key, z0, t)
            return total + self.terms(self._told(logits_fn, z_t, self.steps[t]), z0, z_t, t), None

        steps = (jnp.arange(len(self)), jax.random.split(key, len(self)))
        start = jnp.full(len(z0), z0.shape[1] * self.prior)
        return jax.lax.scan(term, start, steps)[0]

    # samples

    def sample(
        self,
        logits_fn: Logits,
        key: Array,
        shape: tuple[int, int],
        *,
        steps: Any = None,
        known: Int[Array, ...] | None = None,
        mask: Bool[Array, ...] | None = None,
    ) -> Int[Array, "n N"]:
        """Draw sequences, all positions at once; with known codes, complete them without another training.

        In front of each step back the known codes are set to what the forward chain makes of them at that level, and at
        the end to themselves.

        Parameters
        ----------
        logits_fn
            The network. Where it is not finite at a position the whole sequence becomes -1, which is no code; what is
            known stays.
        key
            The same key draws the same noise with and without known codes.
        shape
            `(n, N)`.
        steps
            How many steps, in equal strides to the last one, or their indices; all if it is not given.
        known
            Codes that broadcast to the shape; only those in the mask count.
        mask
            True where a code is known; it broadcasts to the shape.

        Raises
        ------
        ValueError
            For a mask or codes that do not fit the shape or each other, codes out of range, a mask of numbers.
        """
        if (known is None) != (mask is None):
            raise ValueError("known and mask belong together: give both or neither.")
        codes = None
        if mask is not None:
            mask, codes = known_codes(shape, known, mask, self.categories)
        if steps is not None and np.ndim(steps) == 0:
            steps = last_of_strides(len(self), int(steps))
        chain = self if steps is None else self.respaced(steps)
        z = jax.random.randint(jax.random.fold_in(key, len(chain)), shape, 0, self.categories)

        def back(z: Array, t: Array) -> tuple[Array, None]:
            for_known, for_step = jax.random.split(jax.random.fold_in(key, t))
            if mask is not None:
                z = jnp.where(mask & jnp.all(z >= 0, axis=-1, keepdims=True), chain.noised(for_known, codes, t), z)
            log_p = chain.reverse_logits(chain._told(logits_fn, z, chain.steps[t]), z, t)
            drawn = jax.random.categorical(for_step, log_p).astype(z.dtype)
            fine = jnp.all(jnp.isfinite(log_p), axis=(-2, -1))
            return jnp.where(fine[:, None], drawn, -1), None

        z, _ = jax.lax.scan(back, z, jnp.arange(len(chain))[::-1])
        return z if mask is None else jnp.where(mask, codes, z)

    def _sequences(self, name: str, z: Any) -> Array:
        """Checked codes `(n, N)`."""
        z = whole_codes(name, z, self.categories)
        if z.ndim != 2:
            raise ValueError(f"{name} must be of shape (n, N), sequences of codes: given {z.shape}.")
        return z

    def _told(self, logits_fn: Logits, z: Array, t: Array) -> Array:
        """What a network says; raises `ValueError` where that has another shape than it should."""
        logits = logits_fn(z, t)
        expected = (*z.shape, self.categories)
        if logits.shape != expected:
            raise ValueError(f"logits_fn must return logits of shape {expected}: given {logits.shape}.")
        return logits
