"""Tests with real processes: workers that are killed, stopped and asked by others."""
