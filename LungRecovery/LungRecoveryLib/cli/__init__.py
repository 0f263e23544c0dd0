"""The command line `lungrecovery`: it parses, shows progress and turns errors into exit codes."""

import sys


def main() -> None:
    """Run the command line; the process ends with the exit code."""
    try:
        from LungRecoveryLib.cli.application import app
    except KeyboardInterrupt:
        sys.exit(5)
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(f"lungrecovery: the command line needs {error.name}: pip install 'lungrecovery[cli]'", file=sys.stderr)
        sys.exit(3)
    app(prog_name="lungrecovery")
