"""What the person who runs the host asks of the daemon: the view of it, the socket, and the commands."""
