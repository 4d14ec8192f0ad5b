"""Adjusters: evidence and vectors in, moved vectors out. The only package that knows torch."""
