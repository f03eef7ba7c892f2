"""Deliberate faults in our own code, one at a time: each must make a test of its package fail.

The tables beside this file have the faults as edits. ``python3 noxfile.py -s mutants`` applies one
edit at a time, in a copy of the packages, runs the tests that should fail, and reports survivors.
"""
