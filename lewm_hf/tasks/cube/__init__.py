"""Cube: a robot arm must bring a cube to a place on a table."""
