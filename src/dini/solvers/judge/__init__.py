"""Acceptance tests, stopping tests and error estimates that several solvers share."""
