"""Looks at the machines before a long run (launch/doctor.py)."""
