"""What this service asks of the improvement service."""
