"""Opening and creating volumes."""
