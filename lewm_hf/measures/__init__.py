"""Measures of embeddings, scores and rates: pure functions, without files."""
