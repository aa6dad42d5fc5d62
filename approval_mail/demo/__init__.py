"""The whole way from hook to inbox on one machine; needs the extra ``demo``."""
