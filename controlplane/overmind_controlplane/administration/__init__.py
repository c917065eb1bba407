"""The commands of whoever runs the server: what is typed, and what is done for it on the store itself."""
