"""Three venue servers on loopback that speak as the venues do, fed by the simulated market or by a capture."""
