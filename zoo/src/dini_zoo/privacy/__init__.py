"""Learning and data synthesis under differential privacy. What its systems share stands in modules here."""
