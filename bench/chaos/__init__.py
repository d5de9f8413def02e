"""Faults under load: what callers see, and what is lost."""
