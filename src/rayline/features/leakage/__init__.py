"""How a table may give its target away: by a column, by a sum of columns, or by the way that it was divided."""
