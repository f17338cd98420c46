"""Columns of any physical type as values of one kind: of a whole Arrow column in one pass, and of one request."""
