"""The properties of the battery by kind, see `xai_lib.checks.check_explainer`."""

from xai_lib.checks.properties import calls, maps, models_used, state
from xai_lib.checks.properties.case import CHECKS

__all__ = ["CHECKS", "calls", "maps", "models_used", "state"]
