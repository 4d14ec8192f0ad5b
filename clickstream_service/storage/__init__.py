"""MongoDB, and nothing else knows it."""
