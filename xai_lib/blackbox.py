"""The only door to a model; see `xai_lib.core.blackbox`."""

from xai_lib.core.blackbox import BlackBox, BudgetExceeded, NonFiniteOutput

__all__ = ["BlackBox", "BudgetExceeded", "NonFiniteOutput"]
