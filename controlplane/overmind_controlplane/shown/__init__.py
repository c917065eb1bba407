"""How the record looks on the agent-pull wire: rows in, wire models out, a few queries for a whole page."""
