"""The model card of a version: what it is, what it was made of, how good it is where, and its limits.

Its headings are those of M. Mitchell et al., "Model Cards for Model Reporting" (2019); one without content is left out.
"""
