"""The contract of the service, served."""
