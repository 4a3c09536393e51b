"""A simulated market and three venue servers on loopback; also the demo and the player of captures."""
