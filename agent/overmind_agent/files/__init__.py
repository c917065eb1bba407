"""Files and folders that jobs can write to: opened with care."""
