"""What the engine takes and gives (placeholder until merge)."""

from steersman_service.engine.engine import Answer as EngineResult
from steersman_service.engine.engine import Edits
from steersman_service.engine.engine import Work as EngineRequest

__all__ = ["Edits", "EngineRequest", "EngineResult"]
