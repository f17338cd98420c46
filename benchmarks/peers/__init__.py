"""What benchmarks/serving.py compares with: one server each, all with Rayline's own predictor on the same bundle."""
