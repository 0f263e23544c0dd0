"""A scan that is larger than the memory: the work goes on at half resolution and says so, or ends in one sentence."""

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does"),
]

# Registers a pair of 1 mm voxels with no more than so many bytes beyond what the process holds before.
SCRIPT = """
    import json, resource, sys
    import torch
    from LungRecoveryLib.phantom import make_pair
    from LungRecoveryLib.registration.register import register
    from LungRecoveryLib.worker import describe

    torch.set_num_threads(1)
    baseline, followup = make_pair(5, mean_motion_mm=8.0, size=(150, 116, 160), spacing=(2.0, 2.0, 2.0)).visits
    held = 1024 * int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize")))
    resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[1]), resource.RLIM_INFINITY))
    try:
        found = register(baseline.ct, followup.ct, baseline.lungs, followup.lungs, spacing_mm=1.0, weights="none")
        print(json.dumps({"notes": found.notes, "folds": found.folding_percent}))
    except Exception as error:
        print(json.dumps({"code": describe(error)[0], "message": describe(error)[1]}))
"""


def limited(megabytes: int) -> dict:
    """What a registration tells that has so much memory to itself."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(megabytes << 20)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_a_scan_too_large_for_full_resolution_is_registered_at_half():
    told = limited(1400)
    assert told["notes"] == ["Memory ran out on cpu; continued at half resolution on cpu."]
    assert told["folds"] == 0


def test_a_scan_too_large_for_half_resolution_ends_in_a_sentence():
    told = limited(300)
    assert told["code"] == 4
    assert "memory" in told["message"]
