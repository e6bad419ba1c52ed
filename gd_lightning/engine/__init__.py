"""How a stretch of updates is carried out (floor 3); knows torch and numpy, never Lightning."""

from gd_lightning.engine.autograd import AutogradEngine
from gd_lightning.engine.stretch import Engine, Keep, Look, Stretch, Trace

__all__ = ["AutogradEngine", "Engine", "Keep", "Look", "Stretch", "Trace"]
