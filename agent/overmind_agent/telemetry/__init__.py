"""
Seeing inside a daemon: whether it lives and takes work, its figures, and where the time of a job went.

```
health            facts of the daemon  ─▶  live? ready? why not?        health_file, listener
watched_plane     every call to the control plane, with its outcome
```

Nothing here is needed for a job to run: a part that fails is left out, and the work goes on.
"""
