"""Cards from measured results only."""
