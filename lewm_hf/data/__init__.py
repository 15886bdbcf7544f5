"""Episodes: the schema on disk, collecting them, reading them, cutting them into training windows."""
