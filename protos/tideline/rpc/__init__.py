"""How Python honours the contract: errors, validation, paging, health."""
