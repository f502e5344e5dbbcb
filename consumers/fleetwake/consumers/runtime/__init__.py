"""The one consume loop that all services share."""
