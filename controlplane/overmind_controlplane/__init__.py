"""The embedded control plane: one store of jobs, spoken to in several dialects of HTTP."""
