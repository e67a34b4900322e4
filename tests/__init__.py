"""A package, as IPython before 8 puts a `tests` of its own on the path, in which worker
processes would look for the functions of these tests."""
