"""What could we do? Goals, resources and audiences composed into tasks and candidates."""
