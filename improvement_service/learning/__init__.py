"""The steps of a run: reading sessions, moving vectors, writing copies, and holding users meanwhile."""
