"""What every method stands on: the door to a model, and the checks on what comes in.

It imports nothing else of the library.
"""
