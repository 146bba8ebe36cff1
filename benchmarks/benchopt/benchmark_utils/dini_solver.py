"""dini's stochastic bilevel methods as solvers of benchopt's bilevel benchmark.

Copy the folders `benchmark_utils` and `solvers` into a checkout of that benchmark, install dini, and run, for example,

    benchopt run . -s dini-SOBA -s dini-SABA

Each file of `solvers` names a preset of `dini.bilevel`; all that they share is here. An objective of the benchmark is
`f(inner_var, outer_var, start, batch_size)`, the mean over the samples from `start` on: the numbers of the samples are
the data of `dini.bilevel.Batches`.
"""

from typing import ClassVar

import jax
import numpy as np
from benchopt import BaseSolver
from benchopt.stopping_criterion import SufficientProgressCriterion

from dini import bilevel


class DiniSolver(BaseSolver):
    """A preset of `dini.bilevel`, run `eval_freq` steps at a time."""

    sampling_strategy = "callback"
    stopping_criterion = SufficientProgressCriterion(patience=100, strategy="callback")
    requirements: ClassVar = ["pip::dini"]
    #: lengths of the inner steps, the inner over the outer length, samples in a batch
    parameters: ClassVar = {
        "step_size": [0.1],
        "outer_ratio": [1.0],
        "batch_size": [64],
        "eval_freq": [128],
        "random_state": [1],
    }

    def method(self, problem, **steps):
        """Return the preset, with its steps and whatever else a file of `solvers` sets."""
        raise NotImplementedError

    @staticmethod
    def get_next(stop_val):
        return stop_val + 1

    def set_objective(
        self,
        f_inner,
        f_outer,
        n_inner_samples,
        n_outer_samples,
        inner_var0,
        outer_var0,
        f_inner_fb=None,
        f_outer_fb=None,
    ):
        full = self.batch_size == "full"
        inner_size, outer_size = (n_inner_samples, n_outer_samples) if full else (self.batch_size, self.batch_size)

        def inner(x, theta, rows):
            return f_inner(x, theta, rows[0], batch_size=inner_size)

        def outer(x, theta, rows):
            return f_outer(x, theta, rows[0], batch_size=outer_size)

        # samples that do not fill a batch are left out, as the benchmark's own sampler does with the last ones
        self.inner_batches = bilevel.Batches(np.arange(n_inner_samples // inner_size * inner_size), inner_size)
        self.outer_batches = bilevel.Batches(np.arange(n_outer_samples // outer_size * outer_size), outer_size)
        steps = {"inner_step": self.step_size, "outer_step": self.step_size / self.outer_ratio}
        method = self.method(bilevel.Bilevel(outer, inner), **steps)
        self.state = method.init(outer_var0, inner_var0, self.outer_batches[0], self.inner_batches[0])

        @jax.jit
        def epoch(state, key):
            return method.run(state, self.eval_freq, self.outer_batches, self.inner_batches, key)

        self.epoch = epoch
        # compiled before the clock starts
        jax.block_until_ready(epoch(self.state, jax.random.key(0)))

    def run(self, callback):
        state, key = self.state, jax.random.key(self.random_state)
        self.found = state
        while callback():
            key, now = jax.random.split(key)
            self.found = state = self.epoch(state, now)

    def get_result(self):
        return {"inner_var": self.found.x, "outer_var": self.found.theta}
