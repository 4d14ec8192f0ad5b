"""Examination probability by rank and off-policy value: from counts to curves, with numpy and nothing else."""
