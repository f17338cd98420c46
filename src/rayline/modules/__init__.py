"""The ready-made PyTorch modules, built from plain values. ``model`` reads them off a configuration and a layout."""
