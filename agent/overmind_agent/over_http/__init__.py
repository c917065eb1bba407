"""The control plane over HTTP: the agent-pull dialect, and how one exchange is made."""
