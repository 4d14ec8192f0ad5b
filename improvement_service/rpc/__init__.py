"""The service's side of the contract: messages in, messages out."""
