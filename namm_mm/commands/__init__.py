"""The verbs of the command line, a file each: ``OPTIONS``, ``main(call)``, docstring as help."""
