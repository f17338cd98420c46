"""What is known of a key before a row's time: as-of joins, lags and rolling windows.

``history`` is what the pipeline calls; ``join`` and ``windows`` say what is meant, in memory; ``exchange`` does the
same on Ray; ``tables`` and ``feast_table`` are where a feature table's rows come from.
"""
