"""What a credential looks like: by its shape, and by the name that stands before it."""
