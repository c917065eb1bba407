"""What this host allows: room, limits, its owner's word, and what is known of its last life."""
