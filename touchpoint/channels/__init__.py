"""How touches leave the house: what carries a channel, and the hands that it is given to."""
