"""Records what people searched for and what they did with the results."""
