"""Tests of the packages' promises with faults, load and hostile input, from outside.

The suite is a table of pages (`pages.PAGES`). A page is a module with a function
``run(budget, seed, report)``: it runs for `budget` seconds, derives every random choice from
`seed`, and adds counts and findings to `report`. ``python3 noxfile.py -s faults`` runs all pages.
"""
