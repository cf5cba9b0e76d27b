"""Labelled plates: readers of several layouts, a memory-mapped cache, balanced batches."""
