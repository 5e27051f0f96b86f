"""Where users, fields and events live: one file a kind of source, one meaning for all."""
