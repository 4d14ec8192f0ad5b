"""What other systems have logged, as sessions and interactions of the contract."""
