"""What both services do with MongoDB in the same way; only their storage uses it."""
