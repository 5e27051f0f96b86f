"""The demo: the whole loop on the real data set The Complete Journey."""
