"""Ways in and out: fitted scikit-learn transformers and Ray Data preprocessors become features, and features theirs."""
