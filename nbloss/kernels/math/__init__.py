"""Formulas that both devices and the reference share."""
