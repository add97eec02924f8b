"""The search: the loop, and what it consists of (candidates, turns, journal, baselines, finals, budget, stages)."""
