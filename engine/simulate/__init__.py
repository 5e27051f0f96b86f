"""Days to come, played in a world whose answers are planted."""
