"""Who are the users? Catalog, conditions, groups, and the cells that partition them."""
