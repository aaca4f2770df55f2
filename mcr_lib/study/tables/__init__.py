"""What notebooks and reports count, as rows."""
