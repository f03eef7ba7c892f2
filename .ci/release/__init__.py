"""Preparation of the release of one package: checks, commit and tag."""
