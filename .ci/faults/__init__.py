"""Faults, load and hostile input: what the packages promise, tried from outside.

The suite is a table of pages (`pages.PAGES`). A page is a module with a function
``run(budget, seed, report)``: it has `budget` seconds, draws everything from `seed`, and tells
`report` what it did and what was wrong. ``python3 noxfile.py -s faults`` runs them all.
"""
