"""Load tests and measurements: locust, perf_analyzer, and everything side by side (`bench`)."""
