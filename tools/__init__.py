"""Generators of documents and of the Colab cells; nothing here is part of the library."""
