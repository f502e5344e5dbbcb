"""Takes in what other systems record of their agents; one module per system."""
