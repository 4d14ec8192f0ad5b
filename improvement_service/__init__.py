"""Moves vectors towards what people meant, and serves search from them."""
