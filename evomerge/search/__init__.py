"""The loop and what stands beside it: budget, stages, events."""
