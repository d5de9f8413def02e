"""The load test's own error."""


class LoadTestError(Exception):
    """A load test cannot start or continue. The message names the cause and the remedy."""
