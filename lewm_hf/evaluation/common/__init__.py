"""What all analyses share: the model, the episodes, the folder of the results."""
