"""The console: one page that shows what the HTTP API tells, and asks it for what an operator wants."""
