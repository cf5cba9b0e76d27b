"""Measuring a plate reader: scores, calibration, robustness, report. No torch at import."""
