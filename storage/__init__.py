"""Everything that persists: one SQLite file and the checkpoint directories beside it.

The only package with SQL, which goes through sqlite-utils. Every function takes the path of the database and borrows a
connection for itself, so that threads, the app and the trainer process never share one.
"""

import sys

# sqlite-utils imports all of pandas, where it is installed, to know one more type of column: 1 s and 70 MiB for every
# command. A None here is an import that fails, which the library is made for; whoever needs pandas imports it later.
WITHOUT_PANDAS = "pandas" not in sys.modules
if WITHOUT_PANDAS:
    sys.modules["pandas"] = None

import sqlite_utils  # noqa: E402, F401

if WITHOUT_PANDAS:
    del sys.modules["pandas"]
