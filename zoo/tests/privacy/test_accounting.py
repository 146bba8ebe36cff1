"""The exact curve, concentrated and Rényi privacy against integrals, other precision and dp-accounting; ledgers."""

import doctest
import math

import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

from dini_zoo.privacy import accounting, ledger
from dini_zoo.privacy.accounting import (
    cdp_delta,
    cdp_epsilon,
    cdp_rho,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    gaussian_sigma,
    renyi_epsilon,
)
from dini_zoo.privacy.ledger import (
    ConcentratedRelease,
    GaussianRelease,
    Ledger,
    SampledRelease,
    privacy_spent,
)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.3, 0.1), (1.0, 1.0), (2.0, 0.0), (3.0, 8.0)])
def test_the_curve_is_the_excess_of_one_law_over_the_other(mu, epsilon):
    """The definition: how much more mass N(mu, 1) has than e^epsilon N(0, 1), where it has more."""
    border = mu / 2 + epsilon / mu
    excess = lambda x: stats.norm.pdf(x, mu) - math.exp(epsilon) * stats.norm.pdf(x)
    truth, _ = integrate.quad(excess, border, border + 30, epsabs=1e-15, epsrel=1e-13)
    assert gaussian_delta(mu, epsilon) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize(
    ("mu", "epsilon"),
    [(1e-6, 1e-7), (1e-3, 5e-3), (0.05, 1.0), (1.0, 30.0), (40.0, 700.0), (200.0, 21_000.0), (1e3, 5e5)],
)
def test_the_curve_holds_its_digits_far_out(mu, epsilon):
    with mpmath.workdps(80):
        m, e = mpmath.mpf(mu), mpmath.mpf(epsilon)
        truth = float(mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m))
    assert gaussian_delta(mu, epsilon) == pytest.approx(truth, rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("delta", [1e-30, 1e-9, 1e-5, 0.1])
def test_inverses_are_inverse_and_keep_the_promise(epsilon, delta):
    mu = gaussian_mu(epsilon, delta)
    assert gaussian_delta(mu, epsilon) <= delta < gaussian_delta(mu * (1 + 1e-9), epsilon)
    assert gaussian_epsilon(mu, delta) == pytest.approx(epsilon, rel=1e-7)
    rho = cdp_rho(epsilon, delta)
    assert cdp_delta(rho, epsilon) <= delta < cdp_delta(rho * (1 + 1e-9), epsilon)
    assert cdp_epsilon(rho, delta) == pytest.approx(epsilon, rel=1e-7)
    # the exact curve never asks for more noise than a bound for all that is as concentrated
    assert mu >= math.sqrt(2 * rho)


@pytest.mark.parametrize(
    ("epsilon", "delta", "rho"),
    [(1, 1e-6, 0.02435597), (0.5, 1e-9, 0.00395319), (3, 1e-5, 0.22424917), (1, 15_992.0**-2, 0.01622146)],
)
def test_the_specifications_budgets(epsilon, delta, rho):
    assert cdp_rho(epsilon, delta) == pytest.approx(rho, rel=1e-6)


def test_the_best_order_is_found():
    for rho, epsilon in ((1e-8, 1e-3), (0.02, 1.0), (3.0, 20.0)):
        u = np.geomspace(1e-3, 1e8, 200_001)
        exponents = u * ((u + 1) * rho - epsilon) + (u + 1) * np.log(u / (u + 1)) - np.log(u)
        assert cdp_delta(rho, epsilon) == pytest.approx(math.exp(exponents.min()), rel=1e-6)


def test_what_costs_nothing():
    assert gaussian_delta(0.0, 0.5) == 0 == cdp_delta(0.0, 0.5)
    assert gaussian_epsilon(0.0, 1e-5) == 0 == cdp_epsilon(0.0, 1e-5)
    # so little noise is needed at a delta like this that none of it is an epsilon
    assert gaussian_epsilon(1e-9, 1e-5) == 0
    assert privacy_spent(Ledger(), 1e-5) == 0
    assert gaussian_sigma(0.5, 3.0) == 3.0


def test_the_accountants_of_another_library():
    """dp-accounting beside ours: the same orders give the same, and so do a fine grid and the exact curve."""
    rdp = pytest.importorskip("dp_accounting.rdp")
    orders, divergences = [1.5, 2.0, 8.0, 64.0], [0.3, 0.4, 1.6, 12.8]
    theirs, _ = rdp.compute_epsilon(orders, divergences, 1e-5)
    assert renyi_epsilon(orders, divergences, 1e-5) == pytest.approx(theirs, rel=1e-12)
    # the first case of the specification's table: its closed form's noise, counted exactly
    whole = Ledger().add(GaussianRelease("restarts", 17.6777, 10), GaussianRelease("differences", 612.3724, 2990))
    found = {name: privacy_spent(whole, 1e-5, name) for name in ledger.ACCOUNTANTS}
    assert found["gaussian"] == pytest.approx(0.7253, abs=5e-5)
    assert found["zcdp"] == pytest.approx(0.794, abs=5e-4)
    assert found["rdp"] == pytest.approx(0.794, abs=5e-4)
    assert found["gaussian"] <= found["pld"] <= found["gaussian"] * (1 + 1e-3)
    assert found["zcdp"] <= found["rdp"] <= found["zcdp"] * (1 + 1e-3)
    # batches: 200 of 2000 without replacement
    sampled = Ledger().add(SampledRelease("steps", 2.0, 200, 2000, 100))
    assert privacy_spent(sampled, 1e-5, "rdp") == pytest.approx(5.3790, abs=1e-4)
    # Poisson's batches among added and removed records: by two accountants
    poisson = Ledger(neighbors="add_or_remove_one").add(SampledRelease("steps", 2.0, 200, 2000, 100))
    tight, loose = (privacy_spent(poisson, 1e-5, name) for name in ("pld", "rdp"))
    assert 0.8 * loose < tight < loose
    # a choice by the exponential mechanism beside normal noise
    mixed = Ledger().add(GaussianRelease("counts", 10.0), ConcentratedRelease("choices", 0.1**2 / 8, 4))
    assert mixed.rho == pytest.approx(0.005 + 0.005)
    assert privacy_spent(mixed, 1e-6, "rdp") == pytest.approx(privacy_spent(mixed, 1e-6, "zcdp"), rel=1e-3)


def test_adding_up():
    """Many releases are one: multipliers add as 1 / z²."""
    several = Ledger().add(GaussianRelease("a", 3.0, 5), GaussianRelease("b", 4.0), GaussianRelease("c", 7.0, 0))
    one = Ledger().add(GaussianRelease("all", (5 / 9 + 1 / 16) ** -0.5))
    assert several.rho == pytest.approx(one.rho, rel=1e-14)
    assert privacy_spent(several, 1e-6) == pytest.approx(privacy_spent(one, 1e-6), rel=1e-12)
    # without noise nothing is private
    assert math.isinf(privacy_spent(one.add(GaussianRelease("d", 0.0)), 1e-6))
    assert Ledger().add(GaussianRelease("a", 3.0)) == Ledger((GaussianRelease("a", 3.0),))


def test_bad_input():
    for call in (cdp_rho, gaussian_mu):
        for epsilon in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match="epsilon must be positive and finite"):
                call(epsilon, 1e-5)
        for delta in (0.0, 1.0, -1e-3, math.nan):
            with pytest.raises(ValueError, match="delta must be between 0 and 1, both excluded"):
                call(1.0, delta)
    with pytest.raises(ValueError, match="mu must be zero or more"):
        gaussian_delta(-1.0, 1.0)
    with pytest.raises(ValueError, match="rho must be zero or more"):
        cdp_epsilon(math.nan, 1e-5)
    with pytest.raises(ValueError, match="sensitivity must be positive"):
        gaussian_sigma(0.1, 0.0)
    with pytest.raises(ValueError, match="orders must be above 1: given 1"):
        renyi_epsilon([1.0, 2.0], [0.1, 0.1], 1e-5)
    with pytest.raises(ValueError, match="divergences must be zero or more: given nan"):
        renyi_epsilon([2.0], [math.nan], 1e-5)
    with pytest.raises(ValueError, match="one for each of the orders"):
        renyi_epsilon([2.0, 3.0], [0.1], 1e-5)


def test_bad_ledgers():
    with pytest.raises(ValueError, match="multiplier must be zero or more"):
        GaussianRelease("a", -1.0)
    with pytest.raises(ValueError, match="count must be at least 0"):
        GaussianRelease("a", 1.0, -1)
    with pytest.raises(ValueError, match="batch must be above 0 and at most 10: given 11"):
        SampledRelease("a", 1.0, 11, 10)
    with pytest.raises(ValueError, match="batch must be a whole number"):
        Ledger().add(SampledRelease("a", 1.0, 2.5, 10))
    with pytest.raises(ValueError, match="neighbors must be one of 'replace_one'"):
        Ledger(neighbors="friends")
    sampled = Ledger().add(SampledRelease("steps", 2.0, 2, 10))
    with pytest.raises(ValueError, match="knows plain normal noise alone, and 'steps' is a SampledRelease: take 'rdp'"):
        privacy_spent(sampled, 1e-5)
    with pytest.raises(ValueError, match="'steps' is of sampled batches"):
        privacy_spent(sampled, 1e-5, "zcdp")
    with pytest.raises(ValueError, match="'pld' does not know 'steps': take 'rdp'"):
        privacy_spent(sampled, 1e-5, "pld")
    with pytest.raises(ValueError, match="accountant must be one of"):
        privacy_spent(sampled, 1e-5, "moments")


def test_the_docstrings():
    for module in (accounting, ledger):
        failed, tried = doctest.testmod(module)
        assert tried
        assert not failed
