"""What now, this second? Decisions with a propensity, outcomes, off-policy estimates."""
