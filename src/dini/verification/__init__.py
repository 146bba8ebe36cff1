"""What a result must pass before a solve reports it as converged: it is refused only with evidence."""
