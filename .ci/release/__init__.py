"""Prepares the release of one package: what is checked, and the commit and tag that it ends in."""
