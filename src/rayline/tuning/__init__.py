"""Tuning: the search space and the Study: Optuna suggests, warm Ray actors train."""
