"""What notebooks and reports draw: a file per form."""
