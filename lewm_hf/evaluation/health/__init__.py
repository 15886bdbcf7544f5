"""Is a world model in good health? Its embeddings, its distances, its actions."""
