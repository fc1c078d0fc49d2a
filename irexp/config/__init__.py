"""Typed records, resolvers and the check of a composed configuration."""
