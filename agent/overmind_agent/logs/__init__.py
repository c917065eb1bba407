"""The logs of jobs: kept, masked, brought to the control plane."""
