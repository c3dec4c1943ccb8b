"""Makes a plan happen on this rank."""
