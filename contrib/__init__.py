"""Exports to other frameworks, beside the library."""
