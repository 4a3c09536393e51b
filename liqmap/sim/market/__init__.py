"""The simulated market: people with positions, makers and a price, tick after tick; and the truth only it knows."""
