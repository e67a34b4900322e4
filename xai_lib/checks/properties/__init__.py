"""The properties of the battery by kind, see `xai_lib.checks.check_explainer`."""

from xai_lib.checks.properties import arguments, models, state, values
from xai_lib.checks.properties.case import CHECKS

__all__ = ["CHECKS", "arguments", "models", "state", "values"]
