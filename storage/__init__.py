"""Where things are kept: SQL tables and migrations, and the Parquet lake."""
