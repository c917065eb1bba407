"""The control plane over Overmind Lab's REST alone."""
