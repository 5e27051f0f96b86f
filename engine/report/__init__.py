"""The day's plan as one page that a person reads."""
