"""Stochastic optimization: steps, schedules, batch sizes, targets. What its systems share stands in modules here."""
