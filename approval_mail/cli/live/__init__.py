"""The live page of ``approval-mail status --watch``."""
