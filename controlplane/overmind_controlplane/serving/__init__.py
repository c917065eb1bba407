"""What every call passes, whichever dialect it speaks: the application, its doors, its limits, its words for no."""
