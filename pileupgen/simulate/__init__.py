"""Real generators, a minimum-bias pool, pileup by overlay, and a fast calorimeter."""
