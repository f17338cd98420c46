"""Which part each row belongs to, and what each part is.

``split`` and ``strata`` decide, row by row; ``divide`` is the one look at a source that writes the parts, which
``parts`` reads again; ``identity`` and ``sizes`` say what they are.
"""
