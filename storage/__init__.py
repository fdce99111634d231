"""Everything that persists: one SQLite file and the checkpoint directories beside it.

The only package with SQL, which goes through sqlite-utils. Every function takes the path of the database and borrows a
connection for itself, so that threads, the app and the trainer process never share one.
"""

import sys

# sqlite-utils imports all of pandas, where it is installed, to know one more type of column: 1 s and 70 MiB for every
# command. A None here is an import that fails, which the library is made for; whoever needs pandas imports it later.
HIDDEN = sys.modules.setdefault("pandas", None) is None
try:
    import sqlite_utils  # noqa: F401
finally:
    if HIDDEN:
        del sys.modules["pandas"]
