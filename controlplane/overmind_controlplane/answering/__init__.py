"""What a route of any dialect is written with: who calls, what was sent, how it is answered."""
