"""Rows: read from any form, worked on in order, resumed."""
