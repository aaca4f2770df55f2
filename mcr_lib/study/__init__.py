"""The harness: runs, tables, figures, comparison over seeds, and the `mcr` command."""
