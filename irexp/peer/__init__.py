"""irexp beside other libraries, each in an environment of its own: the same work in turns, timed and compared.

The modules worker, work, training, trainer and library_* run in the other environments, where irexp's dependencies are
missing; so they import nothing else of irexp, apart from library_irexp.
"""
