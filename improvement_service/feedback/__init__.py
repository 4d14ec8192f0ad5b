"""The clickstream service as this one needs it, and the only place that calls it."""
