"""Other people's solvers as solvers of dini's problems, and derivatives at points that somebody hands in."""

__all__: list[str] = []
