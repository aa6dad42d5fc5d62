"""The systems that are compared; docs/performance.md says what each is."""
