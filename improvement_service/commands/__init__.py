"""The sub-commands of `tideline` that the improvement service adds, a module each."""
