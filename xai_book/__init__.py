"""What only the book needs: the exercises' checkers and the studies behind its tables.

It uses `xai_lib`, which never imports it.
"""
