"""The page of a Study: its table, plots and best configuration, as files that a person opens."""
