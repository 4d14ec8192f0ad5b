"""Training data out of sessions: pairs, inputs to fine-tune on, and snapshots that give the same again."""
