"""Attacks and faults tried on the whole program: `python -m audits.faults`."""
