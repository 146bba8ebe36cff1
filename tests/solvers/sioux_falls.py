"""The roads of Sioux Falls with their trips, as an inequality over the cars on each way.

Source: LeBlanc, Morlok and Pierskalla, "An efficient approach to solving the road network equilibrium traffic
assignment problem", Transportation Research 1975, in the numbers of "Transportation networks for research"
(github.com/bstabler/TransportationNetworks, SiouxFalls): capacities, minutes, trips a day, and the least objective.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dini import sets

#: two ends, the minutes where there are no cars, the capacity: one road in each direction
ROADS = (
    (1, 2, 6, 25900.20064), (1, 3, 4, 23403.47319), (2, 6, 5, 4958.180928), (3, 4, 4, 17110.52372),
    (3, 12, 4, 23403.47319), (4, 5, 2, 17782.7941), (4, 11, 6, 4908.82673), (5, 6, 4, 4947.995469),
    (5, 9, 5, 10000), (6, 8, 2, 4898.587646), (7, 8, 3, 7841.81131), (7, 18, 2, 23403.47319),
    (8, 9, 10, 5050.193156), (8, 16, 5, 5045.822583), (9, 10, 3, 13915.78842), (10, 11, 5, 10000),
    (10, 15, 6, 13512.00155), (10, 16, 4, 4854.917717), (10, 17, 8, 4993.510694), (11, 12, 6, 4908.82673),
    (11, 14, 4, 4876.508287), (12, 13, 3, 25900.20064), (13, 24, 4, 5091.256152), (14, 15, 5, 5127.526119),
    (14, 23, 4, 4924.790605), (15, 19, 3, 14564.75315), (15, 22, 3, 9599.180565), (16, 17, 2, 5229.910063),
    (16, 18, 3, 19679.89671), (17, 19, 2, 4823.950831), (18, 20, 4, 23403.47319), (19, 20, 4, 5002.607563),
    (20, 21, 6, 5059.91234), (20, 22, 5, 5075.697193), (21, 22, 2, 5229.910063), (21, 24, 3, 4885.357564),
    (22, 23, 4, 5000), (23, 24, 2, 5078.508436),
)  # fmt: skip
#: hundreds of trips from each node to those after it; back they are the same, but for six
TRIPS = (
    "1 1 5 2 3 5 8 5 13 5 2 5 3 5 5 4 1 3 3 1 4 3 1",
    "1 2 1 4 2 4 2 6 2 1 3 1 1 4 2 0 1 1 0 1 0 0",
    "2 1 3 1 2 1 3 3 2 1 1 1 2 1 0 0 0 0 1 1 0",
    "5 4 4 7 7 12 14 6 6 5 5 8 5 1 2 3 2 4 5 2",
    "2 2 5 8 10 5 2 2 1 2 5 2 0 1 1 1 2 1 0",
    "4 8 4 8 4 2 2 1 2 9 5 1 2 3 1 2 1 1",
    "10 6 19 5 7 4 2 5 14 10 2 4 5 2 5 2 1",
    "8 16 8 6 6 4 6 22 14 3 7 9 4 5 3 2",
    "28 14 6 6 6 9 14 9 2 4 6 3 7 5 2",
    "40 20 19 21 40 44 39 7 18 25 12 26 18 8",
    "14 10 16 14 14 10 1 4 6 4 11 13 6",
    "13 7 7 7 6 2 3 4 3 7 7 5",
    "6 7 6 5 1 3 6 6 13 8 8",
    "13 7 7 1 3 5 4 12 11 4",
    "12 15 2 8 11 8 26 10 4",
    "28 5 13 16 6 12 5 3",
    "6 17 17 6 17 6 3",
    "3 4 1 3 1 0",
    "12 4 12 3 1",
    "12 24 7 4",
    "18 7 5",
    "21 11",
    "7",
)
BACK = {(11, 4): 15, (11, 10): 39, (15, 9): 10, (18, 11): 2, (20, 12): 5, (24, 13): 7}
#: the least of Beckmann's objective, the sum of the integrals of the roads' minutes, as it is published
LEAST = 42.31335287107440e5
#: cars are counted in thousands, costs in minutes
CARS = 1e3


class Traffic:
    """The trips between the first ``nodes`` nodes, ``times`` as many as published, on all roads.

    Each pair of nodes has a few ways, which an average of shortest ways finds; pairs with one way have nothing to
    choose. The unknowns are the shares of the other pairs' cars on their ways, an array for each number of ways.
    """

    def __init__(self, nodes: int = 24, times: float = 1.0, rounds: int = 40) -> None:
        ends = [(a - 1, b - 1, *rest) for a, b, *rest in ROADS] + [(b - 1, a - 1, *rest) for a, b, *rest in ROADS]
        self.starts, self.ends, self.free, capacity = (np.array(column) for column in zip(*ends, strict=True))
        self.capacity, self.number = capacity / CARS, {(a, b): k for k, (a, b, *_) in enumerate(ends)}
        trips = np.zeros((24, 24))
        for i, row in enumerate(TRIPS):
            trips[i, i + 1 :] = trips[i + 1 :, i] = np.array(row.split(), float)
        for (i, j), count in BACK.items():
            trips[i - 1, j - 1] = count
        self.pairs = np.argwhere(trips[:nodes, :nodes] > 0)
        self.demand = 100 * times * trips[*self.pairs.T] / CARS
        self.fixed, self.groups = self._grouped(self._ways(rounds))
        self.constraint = sets.Product(tuple(sets.Simplex(axis=-1) for _ in self.groups))

    def minutes(self, flow: Any) -> Any:
        """Return the minutes on each road, by the formula of the Bureau of Public Roads."""
        return self.free * (1 + 0.15 * (flow / self.capacity) ** 4)

    def flow(self, shares: Any) -> Any:
        """Return the cars on each road."""
        each = [jnp.einsum("p,pw,pwr->r", demand, share, uses)
                for share, (demand, uses) in zip(shares, self.groups, strict=True)]  # fmt: skip
        return self.fixed + sum(each)

    def costs(self, shares: Any, tolls: Any = 0.0, spread: Any = 0.0) -> Any:
        """Return what each way costs all cars of its pair; with a spread, each car on a way costs the others a bit."""
        times = self.minutes(self.flow(shares)) + tolls
        return tuple(
            demand[:, None] * (uses @ times + spread * demand[:, None] * share)
            for share, (demand, uses) in zip(shares, self.groups, strict=True)
        )

    def even(self) -> Any:
        """Return even shares."""
        return tuple(np.full(uses.shape[:2], 1 / uses.shape[1]) for _, uses in self.groups)

    def first(self) -> Any:
        """Return the shares of cars that are all on their first way."""
        return tuple(np.tile(np.eye(uses.shape[1])[0], (len(uses), 1)) for _, uses in self.groups)

    def excess(self, shares: Any) -> float:
        """Return how much longer than on the shortest of all ways the cars travel, as a share of their minutes."""
        flow = np.asarray(self.flow(shares))
        times = self.minutes(flow)
        return float(1 - self.demand @ self._shortest(times)[0][*self.pairs.T] / (flow @ times))

    def objective(self, shares: Any) -> float:
        """Return Beckmann's objective, the sum of the integrals of the roads' minutes."""
        flow = np.asarray(self.flow(shares))
        return CARS * float(np.sum(self.free * (flow + 0.03 * flow**5 / self.capacity**4)))

    def _shortest(self, times: Any) -> Any:
        """Return the least minutes between all nodes, and the last node but one on each way (Floyd and Warshall)."""
        far, before = np.full((24, 24), np.inf), np.tile(np.arange(24)[:, None], 24)
        far[self.starts, self.ends] = times
        np.fill_diagonal(far, 0)
        for k in range(24):
            through = far[:, k, None] + far[k]
            shorter = through < far
            far, before = np.where(shorter, through, far), np.where(shorter, before[k], before)
        return far, before

    def _way(self, before: Any, pair: Any) -> tuple[int, ...]:
        """Return the roads of a shortest way."""
        start, at = pair
        roads = []
        while at != start:
            roads.append(self.number[before[start, at], at])
            at = before[start, at]
        return tuple(roads)

    def _ways(self, rounds: int, longer: float = 0.1) -> Any:
        """Return the ways of each pair that an average of shortest ways uses, without those too long at its end."""
        found = [{} for _ in self.pairs]
        flow = np.zeros(len(self.starts))
        for k in range(rounds):
            before = self._shortest(self.minutes(flow))[1]
            towards = np.zeros_like(flow)
            for pair, demand, known in zip(self.pairs, self.demand, found, strict=True):
                way = self._way(before, pair)
                known[way] = None
                towards[list(way)] += demand
            flow += (towards - flow) / (k + 1)
        times = self.minutes(flow)
        cost = lambda way: times[list(way)].sum()
        return [[way for way in known if cost(way) <= (1 + longer) * min(map(cost, known))] for known in found]

    def _grouped(self, ways: Any) -> Any:
        """Return the flow of pairs with one way; for each number of ways the demands, and the roads of the ways."""
        fixed, groups = np.zeros(len(self.starts)), {}
        for demand, kept in zip(self.demand, ways, strict=True):
            uses = np.array([np.bincount(way, minlength=len(fixed)) for way in kept], float)
            if len(kept) == 1:
                fixed = fixed + demand * uses[0]
            else:
                groups.setdefault(len(kept), []).append((demand, uses))
        return fixed, tuple(tuple(map(np.array, zip(*groups[count], strict=True))) for count in sorted(groups))
