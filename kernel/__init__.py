"""The nouns that every room shares. Imports only the standard library, Polars, dataframely and pydantic."""
