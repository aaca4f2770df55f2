"""Runs, folders, pictures and the `mcr` command."""
