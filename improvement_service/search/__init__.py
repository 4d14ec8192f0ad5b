"""Searches as each user sees them."""
