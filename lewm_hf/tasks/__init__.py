"""Tasks: environments, what can be measured in them, and the policies that collect their episodes."""
