"""The HTTP shell: parses, calls one function, renders."""
