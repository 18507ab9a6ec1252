"""Exact text features of many prompts at the cost of their distinct tokens."""

from cocoop.text.encoder import TextEncoder

__all__ = ["TextEncoder"]
