"""How do we reach them without wearing them out? Caps, quiet hours, consent, touches."""
