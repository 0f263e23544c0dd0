"""``python -m LungRecoveryLib.cli`` is `lungrecovery`."""

from LungRecoveryLib.cli import main

main()
