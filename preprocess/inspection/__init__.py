"""What identifiers mean: tables, plots and a page of what shares a prefix."""
