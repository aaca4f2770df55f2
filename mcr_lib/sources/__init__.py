"""Files -> Examples: one module per data set, each yielding ordinary `Example`s."""
