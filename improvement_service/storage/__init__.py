"""What the service remembers in MongoDB, and the only place that knows so."""
