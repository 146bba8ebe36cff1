"""Learning by reward and by imitation. What its systems share stands in modules here."""
