"""How well methods estimate the gradient while they search, where it is known exactly, and how far they come.

The bars are those of the specification that this experiment reproduces.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dini_zoo.kit.run import Phase, Run

from . import benchmark, collection
from .benchmark import Truth
from .estimators import log_likelihood, policy_gradient, policy_hvp
from .methods import harpg, n_harpg, n_pg_igt, normalized_momentum, normalized_pg, storm_pg, vanilla_pg
from .search import AtLookahead, AtMidpoint, AtParameters, ByWeights, Oracle, search
from .tasks import Task

NPG, MOMENTUM, IGT, NHARPG = "N-PG", "momentum", "N-PG-IGT", "N-HARPG"
STILL, NEGATED, SCORELESS = "N-HARPG, v = 0", "N-HARPG, v negated", "N-HARPG, no score"
STORM, PG, HARPG = "STORM-PG", "PG", "HARPG"

#: Where the estimators are looked at, and the direction.
AT, ALONG = np.array([[0.3, 0.8]]), np.array([[1.0, -0.5]])
#: Iterations that an error is a mean over.
WINDOW = 50


@dataclass(frozen=True)
class Settings:
    """The settings of the experiment."""

    seeds: int = 16
    """Of every method at every step."""
    others: int = 16
    """More seeds at the reference step, to which bars are held as well."""
    seed: int = 0
    """Of all random keys."""
    methods: tuple[str, ...] = (
        NPG,
        MOMENTUM,
        IGT,
        NHARPG,
        STILL,
        NEGATED,
        SCORELESS,
        STORM,
        PG,
        HARPG,
    )
    iterations: int = 1000
    trajectories: int = 20
    """In an iteration, all together."""
    step: float = 0.3
    """The reference of the normalized methods."""
    other_steps: tuple[float, ...] = (0.1, 1.0, 3.0)
    """Of these, but for N-HARPG with a part left out."""
    plain_step: float = 0.03
    """The reference of the methods that are not normalized."""
    other_plain_steps: tuple[float, ...] = (0.003, 0.01, 0.1)
    samples: int = 2**17
    """Trajectories by which the estimators themselves are looked at."""
    bilevel_iterations: int = 400
    """Of the stochastic bilevel problem; with none it is left out."""

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            seeds=2,
            others=0,
            iterations=12,
            trajectories=4,
            other_steps=(),
            other_plain_steps=(),
            methods=(IGT,),
            samples=64,
            bilevel_iterations=0,
        )


@dataclass(frozen=True)
class Method:
    """An optimizer, and what it asks for."""

    optimizer: Callable[..., optax.GradientTransformationExtraArgs]
    oracle: Oracle
    normalized: bool = True


def _still(task: Task, params: Any, sample: Any, tangent: Any, baseline: Any) -> Any:
    del task, params, sample, baseline
    return jax.tree.map(jnp.zeros_like, tangent)


def _negated(task: Task, params: Any, sample: Any, tangent: Any, baseline: Any) -> Any:
    return jax.tree.map(jnp.negative, task.hvp(params, sample, tangent, baseline))


def _scoreless(task: Task, params: Any, sample: Any, tangent: Any, baseline: Any) -> Any:
    return jax.jvp(lambda theta: task.gradient(theta, sample, baseline), (params,), (tangent,))[1]


METHODS = {
    NPG: Method(normalized_pg, AtParameters()),
    MOMENTUM: Method(normalized_momentum, AtParameters()),
    IGT: Method(n_pg_igt, AtLookahead()),
    NHARPG: Method(n_harpg, AtMidpoint()),
    STILL: Method(n_harpg, AtMidpoint(_still)),
    NEGATED: Method(n_harpg, AtMidpoint(_negated)),
    SCORELESS: Method(n_harpg, AtMidpoint(_scoreless)),
    STORM: Method(storm_pg, ByWeights()),
    PG: Method(vanilla_pg, AtParameters(), normalized=False),
    HARPG: Method(harpg, AtMidpoint(), normalized=False),
}
#: N-HARPG with a part left out, or wrong.
MUTATIONS = (STILL, NEGATED, SCORELESS)
#: Of the stochastic bilevel problem.
BILEVEL = (NPG, IGT, NHARPG, SCORELESS)


@dataclass(frozen=True)
class Searched:
    """A method with one step, seeds along the first axis. What is not finite is infinite."""

    method: str
    step: float
    errors: np.ndarray
    r"""The squared error of :math:`d_t`, by iteration."""
    gaps: np.ndarray
    """What the last parameters lack to the optimum."""
    ahead: float
    """The longest way of the look-ahead, of all seeds."""

    def gap(self, count: int) -> float:
        """The median over the first so many seeds."""
        return float(np.median(self.gaps[:count]))

    def late(self, count: int | None = None, first: int = 0) -> float:
        """The median over seeds of the mean error at the end: of so many seeds, from one on."""
        return self._over(slice(-WINDOW, None), count, first)

    def early(self, count: int | None = None, first: int = 0) -> float:
        """The same around a tenth of the iterations."""
        middle = self.errors.shape[1] // 10
        return self._over(slice(max(0, middle - WINDOW // 2), middle + WINDOW // 2), count, first)

    def _over(self, window: slice, count: int | None, first: int) -> float:
        some = self.errors[first:] if count is None else self.errors[first : first + count]
        return float(np.median(some[:, window].mean(axis=1)))

    def slope(self, count: int | None = None, first: int = 0, after: int = WINDOW) -> float | None:
        """The exponent of the median error's decay after so many iterations."""
        some = self.errors[first:] if count is None else self.errors[first : first + count]
        t, middle = np.arange(some.shape[1])[after:], np.median(some, axis=0)[after:]
        if len(t) < 2 or not np.all(np.isfinite(middle)):
            return None
        return float(np.polyfit(np.log(t), np.log(middle), 1)[0])


@dataclass(frozen=True)
class Estimators:
    """Estimates at one point, beside what they estimate."""

    gradient: np.ndarray
    hvp: np.ndarray
    """Both exactly."""
    found: dict[str, tuple[np.ndarray, np.ndarray]]
    """Mean and standard error."""
    spread: float
    """The trace of the gradient estimate's covariance, of one trajectory."""
    spread_baseline: float
    """The same with a baseline."""


@dataclass(frozen=True)
class Result:
    """What was found."""

    settings: Settings
    truth: Truth
    estimators: Estimators
    searched: list[Searched]
    """Of each method at each step, the reference first."""
    bilevel: list[Searched]

    def at_reference(self, method: str) -> Searched | None:
        """A method with its reference step, if it was run."""
        return next((one for one in self.searched if one.method == method), None)

    def best(self, method: str) -> Searched | None:
        """A method with the step whose median gap is the least."""
        mine = [one for one in self.searched if one.method == method]
        return min(mine, key=lambda one: one.gap(self.settings.seeds), default=None)


def run(settings: Settings, run: Run) -> Result:
    """Run the experiment."""
    run.plan({"truth": 4, "estimators": 4, "searches": 90, "bilevel": 40})
    known = run.part("truth", lambda _: benchmark.truth())
    estimators = run.part("estimators", lambda _: _estimators(settings, run))

    def one(name: str, _: Phase) -> list[Searched]:
        method = METHODS[name]
        normalized = method.normalized
        reference = settings.step if normalized else settings.plain_step
        others = settings.other_steps if normalized else settings.other_plain_steps
        others = () if name in MUTATIONS else others
        lanes = [(reference, seed) for seed in range(settings.seeds + settings.others)]
        lanes += [(step, seed) for step in others for seed in range(settings.seeds)]
        task, start = benchmark.TASK, jnp.asarray(benchmark.START)
        path = _paths(method, task, start, lanes, settings.iterations, settings.trajectories, run)
        found = _judged(path, benchmark.value, known.best)
        return _divided(name, lanes, *found)

    searched = [found for some in run.each("searches", settings.methods, one, pairs=True) for found in some]

    def bilevel(name: str, _: Phase) -> list[Searched]:
        lanes = [(settings.step, seed) for seed in range(settings.seeds)]
        task, start = collection.TASK, collection.start()
        path = _paths(
            METHODS[name], task, start, lanes, settings.bilevel_iterations, settings.trajectories, run, maximize=False
        )
        return _divided(name, lanes, *_judged(path, collection.objective, best))

    names = BILEVEL if settings.bilevel_iterations else ()
    best = run.part("bilevel optimum", lambda _: collection.best()) if names else 0.0
    nested = [found for some in run.each("bilevel", names, bilevel, pairs=True) for found in some]
    return Result(settings, known, estimators, searched, nested)


def _paths(
    method: Method,
    task: Task,
    start: Any,
    lanes: list[tuple[float, int]],
    iterations: int,
    samples: int,
    run: Run,
    **options: Any,
) -> Any:
    """The paths of all lanes, side by side in one program."""

    def lane(step: Any, key: Any) -> Any:
        optimizer = method.optimizer(step, **options)
        return search(task, optimizer, method.oracle, start, key, steps=iterations, samples=samples)

    keys = jnp.stack([run.key("search", seed) for _, seed in lanes])
    found = jax.jit(jax.vmap(lane))(jnp.array([step for step, _ in lanes]), keys)
    return found.params, found.path


def _judged(found: Any, value: Callable[[Any], Any], best: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors by lane and iteration, gaps and the longest look-ahead by lane."""
    last, path = found
    error, gain = _programs(value)
    errors, gaps = np.asarray(error(path.params, path.estimate)), np.abs(best - np.asarray(gain(last)))
    finite = lambda array: np.where(np.isfinite(array), array, np.inf)
    return finite(errors), finite(gaps), finite(np.asarray(path.lookahead).max(axis=1))


@functools.cache
def _programs(value: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The squared error by lane and iteration, and the value by lane: one program for all methods."""

    def error(params: Any, estimate: Any) -> Any:
        off = jax.tree.map(jnp.subtract, estimate, jax.grad(value)(params))
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(off))

    return jax.jit(jax.vmap(jax.vmap(error))), jax.jit(jax.vmap(value))


def _divided(
    name: str, lanes: list[tuple[float, int]], errors: np.ndarray, gaps: np.ndarray, ahead: np.ndarray
) -> list[Searched]:
    """Lanes by their steps."""
    steps = np.array([step for step, _ in lanes])
    return [
        Searched(name, float(step), errors[steps == step], gaps[steps == step], float(ahead[steps == step].max()))
        for step in dict.fromkeys(steps.tolist())
    ]


def _estimators(settings: Settings, run: Run) -> Estimators:
    task, at, along = benchmark.TASK, jnp.asarray(AT), jnp.asarray(ALONG)
    baseline = task.fit(at, task.draw(run.key("baseline"), at, 200))

    def one(key: Any) -> Any:
        traj = task.sample(key, at)
        density = lambda K: log_likelihood(benchmark.log_prob, K, traj)
        gradient = lambda K: policy_gradient(benchmark.log_prob, K, traj, discount=benchmark.DISCOUNT)
        g, curved = jax.jvp(gradient, (at,), (along,))
        score = jax.jvp(density, (at,), (along,))[1]
        whole = policy_hvp(benchmark.log_prob, at, traj, along, discount=benchmark.DISCOUNT)
        return g[0], whole[0], curved[0], score, task.gradient(at, traj, baseline)[0]

    keys = jax.random.split(run.key("estimators"), settings.samples)
    some = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=min(2**13, settings.samples)))(keys)
    g, whole, curved, score, reduced = map(np.asarray, some)
    mean = lambda x: (x.mean(axis=0), x.std(axis=0) / np.sqrt(len(x)))
    product = curved + g.mean(axis=0) * score.mean()
    found = {
        "g": mean(g),
        "B u": mean(whole),
        "without the score term": mean(curved),
        "product of means": mean(product),
        "score term negated": mean(curved - g * score[:, None]),
    }
    exact = jax.jvp(jax.grad(benchmark.value), (at,), (along,))
    spread = lambda x: float(np.trace(np.cov(x.T)))
    return Estimators(*(np.asarray(x)[0] for x in exact), found, spread(g), spread(reduced))
