"""A picker without a cluster does not pay for one."""

import subprocess
import sys


def test_the_client_library_is_not_imported_without_a_pool():
    code = "import sys, epp.app.picker; print('kubernetes' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "False"
