"""Models: everything that needs torch, TRL or a network port."""
