"""`python -m steersman_service` is `steersman`."""

from steersman_service.cli.main import main

main()
