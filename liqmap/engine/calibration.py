"""Calibration: what was observed over what was expected, tier by tier, moves the weights of new positions.

Observed liquidations over-sample high leverage, so they are never counted as they come. Each one is attributed to the
tiers by what the inventory held within REACH cells of its trigger, before price passed there; what was expected is what
the inventory lost in the same minute. At the end of a window in which enough was expected, per side,

    f_i = (observed_i / (c phi) + a_i) / (expected_i + a_i)     a_i = ANCHOR * sum(expected) * prior_i
    w_i <- w_i * f_i ** eta, normalised, within the guard rails

and the standing book is re-tiered by the same factors. c phi, the realisation, is the part of what leaves at its trigger
that is printed as a liquidation (shared/model.md section 7). It is held at its long-run value, because the level of observed
over expected is the only evidence on tiers that price never reached.
"""
