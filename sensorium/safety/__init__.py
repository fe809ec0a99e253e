"""POLICY AND CHECKS: what is made here says so."""
