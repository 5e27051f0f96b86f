"""What shall we do, given that everything competes? The global allocation."""
