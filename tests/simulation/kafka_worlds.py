"""Worlds of workers on Kafka: what ``running.py`` asks of a kind of world."""

from .plan import make_plan, smaller
from .world import run_plan

__all__ = ["make_plan", "run_plan", "smaller"]
