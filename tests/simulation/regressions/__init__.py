"""Worlds in which the product once failed, one a module; they do well now.

A seed means another world as soon as plans are drawn in another way, and a plan stays what it is.
"""

from . import dropped_error, forgotten_member, forgotten_offset, forgotten_static_member, refused_offset
from .regression import Regression

__all__ = ["REGRESSIONS", "Regression"]

REGRESSIONS = tuple(
    module.REGRESSION
    for module in (forgotten_offset, forgotten_member, forgotten_static_member, refused_offset, dropped_error)
)
