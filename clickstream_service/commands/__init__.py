"""The sub-commands of `tideline` that the clickstream service adds, a module each."""
