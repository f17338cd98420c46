"""How good a bundle is on rows that nothing was fitted on."""
