"""Small variational inequalities of the literature, by their formulas, with all of their solutions.

Sources: Kojima and Shindo, "Extensions of Newton and quasi-Newton methods to systems of PC1 equations", J. Oper. Res.
Soc. Japan 1986; Josephy, "Newton's method for generalized equations", 1979; Billups, "Algorithms for complementarity
problems and generalized equations", 1995; Braess, "Über ein Paradoxon aus der Verkehrsplanung", 1968; Harker, "A
variational inequality approach for the determination of oligopolistic market equilibrium", Math. Programming 1984.
"""

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import dini
from dini import sets


class Problem(NamedTuple):
    """A variational inequality, starts, and its solutions or, where they are many, how far a point is from one."""

    name: str
    fun: Any
    constraint: Any
    starts: tuple
    solutions: tuple = ()
    has_none: bool = False
    excess: Any = None


def polynomials(third, fourth):
    """Kojima and Shindo's function, and Josephy's, which differs in two numbers and a constant."""

    def fun(x):
        a, b, c, d = x
        return jnp.stack(
            [
                3 * a**2 + 2 * a * b + 2 * b**2 + c + 3 * d - 6,
                2 * a**2 + a + b**2 + third * c + 2 * d - 2,
                3 * a**2 + a * b + 2 * b**2 + 2 * c + fourth[0] * d - fourth[1],
                a**2 + 3 * b**2 + 2 * c + 3 * d - 3,
            ]
        )

    return fun


kojima_shindo, josephy = polynomials(10, (9, 9)), polynomials(3, (3, 1))
CORNERS = tuple(np.array(corner, float) for corner in itertools.product((0, 1), repeat=4))
FAR = tuple(size * np.ones(4) for size in (10.0, 100.0, -10.0))
DEGENERATE, OTHER = np.array([np.sqrt(6) / 2, 0, 0, 0.5]), np.array([1.0, 0, 3.0, 0])


def billups(x):
    """A residual that has a local minimum, and no zero, at the start."""
    return (x - 1) ** 2 - 1.01


POSITIVE, FREE_SET = sets.NonNegative(), sets.Free()


def cournot(q, cost, intercept=10.0):
    """Marginal losses of firms that sell at the price ``intercept`` less what all sell."""
    return cost - (intercept - jnp.sum(q) - q)


def cournot_solution(cost, intercept=10.0):
    """The quantities by the firms that sell: the cheapest ``k`` firms whose price is above their cost."""
    order = np.argsort(cost)
    for k in range(len(cost), 0, -1):
        price = (intercept + np.sum(cost[order[:k]])) / (k + 1)
        if price >= cost[order[k - 1]]:
            return np.maximum(price - np.asarray(cost), 0)
    return np.zeros(len(cost))


COSTS = np.array([1.0, 2.0, 3.5, 8.0, 9.0])


def followers(leads, cost, **how):
    """Return what followers sell after a leader who sells ``leads``: Cournot's equilibrium at the price left."""
    fun = lambda q, leads, cost: cournot(q, cost, 10.0 - leads)
    return dini.variational_inequality(fun, jnp.ones(cost.shape), leads, cost, constraint=POSITIVE, **how).x


def stackelberg(start, own, cost, inner=None):
    """Let the leader, whose cost is ``own``, gain the most, by gradients through the followers' equilibrium."""
    loss = lambda leads, own, cost: (
        -leads * (10.0 - leads - jnp.sum(followers(leads, cost, solver=inner, on_failure="nan")) - own)
    )
    return dini.minimize(loss, start, own, cost, constraint=POSITIVE, on_failure="ignore")


def stackelberg_solution(own, cost, intercept=10.0):
    """The leader's quantity in closed form: the best of those for each number of followers that sell, and of kinks."""
    cost = np.sort(np.asarray(cost))
    price = lambda leads: intercept - leads - np.sum(cournot_solution(cost, intercept - leads))
    count = np.arange(len(cost) + 1)
    sums = intercept + np.concatenate([[0.0], np.cumsum(cost)])
    best = [0.0, *(sums - (count + 1) * own) / 2, *(sums[1:] - (count[1:] + 1) * cost)]
    return max((leads for leads in best if leads >= 0), key=lambda leads: (price(leads) - own) * leads)


#: the leader's cost and the followers'; how many of these sell in the end
LEADERS = {
    "Stackelberg, all three sell": (2.0, np.array([2.0, 2.0, 2.0])),
    "Stackelberg, two of three sell": (1.5, np.array([1.0, 2.0, 3.5])),
    "Stackelberg, one of three sells": (1.0, np.array([3.0, 4.0, 4.5])),
    "Stackelberg, kept out at a kink": (1.0, np.array([5.0, 6.0, 7.0])),
}

#: rock, paper, scissors with stakes: the value is zero, the strategy is known
STAKES = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -3.0], [-2.0, 3.0, 0.0]])
SIMPLICES = sets.Product((sets.Simplex(), sets.Simplex()))


def matrix_game(z):
    """The row player pays ``x' A y``, the column player takes it."""
    return STAKES @ z[1], -STAKES.T @ z[0]


def braess(flows, toll=0.0):
    """Costs of the three paths of Braess's network; the toll is on the middle link, which the third path uses."""
    up, down, across = flows
    a, b = 10 * (up + across), 10 * (down + across)
    return jnp.stack([a + 50 + up, 50 + down + b, a + 10 + across + toll + b])


def braess_solution(toll):
    """The flows of six cars, for a toll of at most thirteen."""
    return np.array([2 + toll / 13, 2 + toll / 13, 2 - 2 * toll / 13])


def grid(side=4):
    """A network of streets, one way each, with the paths of three demands, and links' costs in powers of their flow."""
    nodes = list(itertools.product(range(side), repeat=2))
    links = [((i, j), (i + 1, j)) for i, j in nodes if i + 1 < side] + [
        ((i, j), (i, j + 1)) for i, j in nodes if j + 1 < side
    ]
    number = {link: k for k, link in enumerate(links)}
    rng = np.random.default_rng(0)
    free, capacity = rng.uniform(1.0, 3.0, len(links)), rng.uniform(1.0, 4.0, len(links))
    incidence, demands = [], []
    for (start, end), demand in (
        (((0, 0), (side - 1, side - 1)), 5.0),
        (((0, 1), (2, 3)), 3.0),
        (((1, 0), (3, 2)), 2.0),
    ):
        down, right = end[0] - start[0], end[1] - start[1]
        rows = []
        for steps in itertools.combinations(range(down + right), down):
            at, row = start, np.zeros(len(links))
            for k in range(down + right):
                to = (at[0] + 1, at[1]) if k in steps else (at[0], at[1] + 1)
                row[number[at, to]], at = 1.0, to
            rows.append(row)
        incidence.append(np.array(rows))
        demands.append(demand)
    return tuple(incidence), tuple(demands), free, capacity


PATHS, DEMANDS, FREE, CAPACITY = grid()


def link_flows(flows):
    """The flow on each link."""
    return sum(h @ paths for h, paths in zip(flows, PATHS, strict=True))


def travel_times(flows, toll=0.0):
    """Costs of all paths, by the formula of the Bureau of Public Roads, with a toll on the first link."""
    times = FREE * (1 + 0.15 * (link_flows(flows) / CAPACITY) ** 4)
    times = times + toll * jnp.eye(len(FREE), dtype=times.dtype)[0]
    return tuple(paths @ times for paths in PATHS)


STREETS = sets.Product(tuple(sets.Simplex(demand) for demand in DEMANDS))


def excess(flows):
    """Return how much longer than on the shortest ways of each demand the cars travel, as a share of their time."""
    costs = [np.asarray(each) for each in travel_times(flows)]
    least = sum(demand * each.min() for demand, each in zip(DEMANDS, costs, strict=True))
    return float(1 - least / sum(np.asarray(h) @ each for h, each in zip(flows, costs, strict=True)))


EVEN = tuple(np.full(len(paths), demand / len(paths)) for paths, demand in zip(PATHS, DEMANDS, strict=True))
FIRST = tuple(demand * np.eye(len(paths))[0] for paths, demand in zip(PATHS, DEMANDS, strict=True))


def rotation(x):
    """An operator that is monotone and no more, around which the projection method turns."""
    return jnp.stack([x[1], -x[0]])


def lemke():
    """A linear complementarity problem with a matrix that is no gradient's."""
    rng = np.random.default_rng(1)
    skew = rng.standard_normal((20, 20))
    matrix = np.diag(np.geomspace(0.01, 1, 20)) + 0.3 * (skew - skew.T)
    x = np.maximum(rng.standard_normal(20), 0)
    offset = np.where(x > 0, 0, rng.uniform(0.1, 1, 20)) - matrix @ x
    return lambda u: matrix @ u + offset, x


LINEAR, LINEAR_SOLUTION = lemke()

PROBLEMS = (
    Problem("Kojima-Shindo", kojima_shindo, POSITIVE, (*CORNERS, *FAR), (DEGENERATE, OTHER)),
    Problem("Josephy", josephy, POSITIVE, (*CORNERS, *FAR), (DEGENERATE,)),
    Problem(
        "Billups", billups, POSITIVE, tuple(np.array(x) for x in (0.0, 0.5, 1.0, 2.0, 10.0)), (1 + np.sqrt(1.01),)
    ),
    Problem(
        "Cournot",
        lambda q: cournot(q, COSTS),
        POSITIVE,
        (np.zeros(5), np.ones(5), 1e3 * np.ones(5)),
        (cournot_solution(COSTS),),
    ),
    Problem(
        "matrix game",
        matrix_game,
        SIMPLICES,
        ((np.ones(3) / 3, np.ones(3) / 3), (np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))),
        ((np.array([0.5, 1 / 3, 1 / 6]),) * 2,),
    ),
    Problem(
        "Braess",
        braess,
        sets.Simplex(6.0),
        (np.full(3, 2.0), np.array([6.0, 0, 0]), np.array([0, 0, 6.0])),
        (braess_solution(0.0),),
    ),
    Problem("grid of streets", travel_times, STREETS, (EVEN, FIRST), excess=excess),
    Problem("rotation", rotation, FREE_SET, (np.ones(2), 1e4 * np.ones(2)), (np.zeros(2),)),
    Problem("linear", LINEAR, POSITIVE, (np.zeros(20), np.ones(20), 1e3 * np.ones(20)), (LINEAR_SOLUTION,)),
    Problem("mixed", lambda x: x**3 - np.array([8.0, -30.0, 30.0]), sets.Box(-3.0, 3.0),
            (np.zeros(3), 3 * np.ones(3), -3 * np.ones(3)), (np.array([2.0, -3.0, 3.0]),)),
    Problem("one", lambda x: jnp.ones_like(x), FREE_SET, (np.zeros(2), np.ones(2)), has_none=True),
    Problem("exponential", lambda x: -jnp.exp(-x), FREE_SET, (np.array(0.0), np.array(3.0)), has_none=True),
    Problem("square", lambda x: x**2 + 1, FREE_SET, (np.array(0.0), np.array(3.0)), has_none=True),
)  # fmt: skip


def judged(problem, solution):
    """Return ``right``, ``wrong`` or ``failed`` for a solution that was found."""
    if int(solution.status) != dini.Status.CONVERGED:
        return "right" if problem.has_none else "failed"
    if problem.has_none:
        return "wrong"
    flat = lambda tree: np.concatenate([np.ravel(part) for part in (tree if isinstance(tree, tuple) else (tree,))])
    x = flat(solution.x)
    if problem.solutions:
        near = min(np.linalg.norm(x - flat(each)) for each in problem.solutions)
        return "right" if near <= 1e-6 * (1 + np.linalg.norm(x)) else "wrong"
    return "right" if abs(problem.excess(solution.x)) <= 1e-6 else "wrong"
