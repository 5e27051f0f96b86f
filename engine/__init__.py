"""The shell: settings, wiring, the daily cycle, the command line. Nothing imports it."""
