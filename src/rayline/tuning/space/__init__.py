"""What a Study searches: a space over the keys of a configuration, checked before any worker starts. Pure."""
