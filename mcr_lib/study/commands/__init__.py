"""The `mcr` command."""
