"""Fuzz targets. `make fuzz` runs them under atheris; `test_targets.py` gives each a few inputs in the test suite."""
