"""Calls to chat models: paced, paid for, journalled."""
