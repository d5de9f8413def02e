"""`python -m steersman_service` is `steersman`."""

from steersman_service.cli import main

main()
