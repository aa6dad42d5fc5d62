"""The mail servers that every peer sends to: they take each mail, keep none, and tell when it came."""
