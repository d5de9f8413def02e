"""Which calls of the contract this checkout serves: documents may show calls that are on their way. To be deleted once all are served."""

from importlib import import_module

MODULES = {
    "RecommendationService": "recommendation",
    "ExplanationService": "explanation",
    "FeatureService": "features",
    "ItemService": "items",
    "ScenarioService": "scenarios",
}


def served(need: str | None) -> bool:
    """`need` is "Service.Method", or nothing."""
    if not need:
        return True
    service, method = need.split(".")
    try:
        handlers = getattr(import_module(f"steersman_service.api.{MODULES[service]}"), service)
    except ModuleNotFoundError:
        return False
    return hasattr(handlers, method)
